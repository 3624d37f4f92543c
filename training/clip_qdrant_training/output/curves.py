"""Pictures of a run: its curves, and what the model gets to see. Files are replaced whole: a viewer sees no half one.

from clip_qdrant_training.output.curves import draw_curves
from clip_qdrant_training.output.log import read_log
Path("curves.png").write_bytes(draw_curves(read_log("runs/first")))
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import tempfile
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clip_qdrant.errors import ConfigError, MissingExtra, TrainingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Average", "draw_curves", "need_matplotlib", "plot", "replace_file", "samples"]

SAMPLES = 64  # images in samples.png: eight by eight is what one looks at

_POINTS = 4000  # of one line: more than there are pixels, and it stays quick after a million steps
_CELL = 160  # pixels: below it a caption has no room
_FONT_SIZE, _LINE_HEIGHT, _CAPTION_LINES, _MARGIN = 11, 15, 4, 4


class Average:
    """A moving average that forgets exponentially, without the pull of its start (Adam, arXiv:1412.6980, section 3)."""

    def __init__(self, keep: float = 0.95) -> None:
        self._keep = keep
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        """The average with this value in it."""
        self._sum = self._keep * self._sum + (1 - self._keep) * value
        self._weight = self._keep * self._weight + (1 - self._keep)
        return self._sum / self._weight


def need_matplotlib(purpose: str = "drawing the curves of a run") -> None:
    """Raises MissingExtra now, not after the first epoch, where there is no matplotlib."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtra("matplotlib", "train", purpose) from error


def draw_curves(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """What `plot` makes of the rows of `read_log`, as a PNG of 1200 x 800 pixels."""
    buffer = io.BytesIO()
    plot(rows).savefig(buffer, format="png")
    return buffer.getvalue()


def plot(rows: Iterable[Mapping[str, Any]]) -> Figure:
    """Loss, images per second, learning rates and recall over the steps, from the rows of `read_log`.

    Raises MissingExtra without matplotlib.
    """
    need_matplotlib()
    from matplotlib.figure import Figure  # not pyplot, whose figures are global and may open a window

    rows = list(rows)
    steps = [row for row in rows if row["kind"] == "step"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    figure = Figure(figsize=(12, 8), dpi=100, layout="constrained")
    loss, recall, rates, speed = figure.subplots(2, 2).flat
    _steps_and_epochs(loss, "loss", steps, epochs, "loss")
    _steps_and_epochs(speed, "images per second", steps, epochs, "images_per_second")
    rates.set_title("learning rate")
    for group in _names(steps, "lr"):
        _line(rates, group, [(row["step"], row["lr"].get(group)) for row in steps])
    recall.set_title("recall on the validation pairs, percent")
    for name in _names(epochs, "metrics"):
        points = [(row["step"], row["metrics"].get(name)) for row in epochs]
        _line(recall, name.replace("_recall", "").replace("_", " "), points, marker=".")
    for best in [row["step"] for row in epochs if row["best"] and row["metrics"]][-1:]:
        recall.axvline(best, color="black", linewidth=0.8, linestyle=":", label="best")
    for axes in (loss, recall, rates, speed):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    return figure


def _steps_and_epochs(
    axes: Axes, title: str, steps: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]], field: str
) -> None:
    """Each step faintly, its moving average, and the means of the epochs."""
    axes.set_title(title)
    average = Average()
    known = [(row["step"], row[field]) for row in steps if row[field] is not None]
    _line(axes, None, known, color="tab:blue", alpha=0.25)
    _line(axes, "moving average", [(step, average.add(value)) for step, value in known], color="tab:blue")
    _line(axes, "epoch", [(row["step"], row[field]) for row in epochs], color="tab:orange", marker=".")


def _line(
    axes: Axes,
    label: str | None,
    points: Sequence[tuple[int, float | None]],
    *,
    color: str | None = None,
    alpha: float = 1.0,
    marker: str = "",
) -> None:
    """One line through the points that there are: a number that was no number is null in the log."""
    every = math.ceil(len(points) / _POINTS) or 1
    known = [(x, y) for x, y in [*points[:-1:every], *points[-1:]] if y is not None]
    if known:
        axes.plot([x for x, _ in known], [y for _, y in known], label=label, color=color, alpha=alpha, marker=marker)


def _names(rows: Iterable[Mapping[str, Any]], field: str) -> list[str]:
    """The keys of a mapping in all rows, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row[field]))


def samples(folder: str | Path, pixels: np.ndarray, captions: Sequence[str]) -> Path:
    """Write `samples.png`: training images as the model sees them, each above its caption. Returns its path.

    `pixels`: (n, size, size, 3), uint8, before normalisation; the first 64 of them are drawn, at their own size. Raises
    ConfigError for another shape or type, TrainingError if the file cannot be written, MissingExtra without matplotlib:
    its font knows the European scripts and Arabic, which that of Pillow does not; others show as boxes.
    """
    need_matplotlib("writing captions below images")
    from matplotlib import get_data_path

    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise ConfigError(f"samples are {pixels.dtype} of shape {pixels.shape}: they must be uint8, (n, size, size, 3)")
    if len(captions) != len(pixels):
        raise ConfigError(f"{len(captions)} captions for {len(pixels)} images: give one of each")
    shown = min(len(pixels), SAMPLES)
    font = ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _FONT_SIZE)
    cells = [_cell(image, caption, font) for image, caption in zip(pixels[:shown], captions[:shown], strict=True)]
    columns = math.ceil(math.sqrt(shown))
    width, height = cells[0].size
    grid = Image.new("RGB", (columns * width, math.ceil(shown / columns) * height), "white")
    for index, cell in enumerate(cells):
        grid.paste(cell, (index % columns * width, index // columns * height))
    buffer = io.BytesIO()
    grid.save(buffer, "PNG")
    return write_picture(Path(folder) / "samples.png", buffer.getvalue())


def write_picture(path: Path, content: bytes) -> Path:
    """`replace_file` in a folder that is made if it is not there; TrainingError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise TrainingError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _cell(image: np.ndarray, caption: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """An image with its caption below, cut off where it is too long: captions never reach a neighbour."""
    height, width, _ = image.shape
    room = max(width, _CELL)
    cell = Image.new("RGB", (room + 2 * _MARGIN, height + _CAPTION_LINES * _LINE_HEIGHT + 3 * _MARGIN), "white")
    cell.paste(Image.fromarray(image), (_MARGIN + (room - width) // 2, _MARGIN))
    draw = ImageDraw.Draw(cell)
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(caption.split()))
    letters = int(room / font.getlength("n"))
    for number, line in enumerate(textwrap.wrap(printable, letters, max_lines=_CAPTION_LINES, placeholder="...")):
        draw.text((_MARGIN, height + 2 * _MARGIN + number * _LINE_HEIGHT), line, fill="black", font=font)
    return cell


def replace_file(path: Path, content: bytes) -> None:
    """Write to a neighbour, fsync, rename: the file is the old one or the new one, never half of either."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
