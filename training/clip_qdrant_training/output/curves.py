"""Charts, drawn by matplotlib: the curves of a run, and how similarities lie to each other.

from clip_qdrant_training.output.curves import draw_curves
from clip_qdrant_training.output.log import read_log
Path("curves.png").write_bytes(draw_curves(read_log("runs/first")))
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clip_qdrant.errors import MissingExtra
from clip_qdrant_training.output.moving_average import Average

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "draw_histogram", "draw_lines", "make_figure", "need_matplotlib", "plot_curves", "save_png"]

_POINTS = 4000  # of one line: more than there are pixels, and it stays quick after a million steps
_GREY = "0.5"  # of texts on a page: it is read on white and on black
# Okabe and Ito's palette, told apart by the colour-blind too, in an order that keeps neighbours distinct.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a90")


def need_matplotlib(purpose: str = "drawing the curves of a run") -> None:
    """Raises MissingExtra now, not after the first epoch, where there is no matplotlib."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtra("matplotlib", "train", purpose) from error


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of 100 pixels an inch. Not pyplot's, whose figures are global and may open a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def save_png(figure: Figure, *, on_page: bool = False) -> bytes:
    """The figure as a PNG. `on_page`: without a ground, its texts in a grey that is read in light and in dark."""
    if on_page:
        _fit_page(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def draw_curves(rows: Iterable[Mapping[str, Any]], *, on_page: bool = False) -> bytes:
    """What `plot_curves` makes of the rows of `read_log`, as a PNG of 1200 x 800 pixels."""
    return save_png(plot_curves(rows), on_page=on_page)


def plot_curves(rows: Iterable[Mapping[str, Any]]) -> Figure:
    """Loss, recall, learning rates and images per second over the steps, from the rows of `read_log`.

    Raises MissingExtra without matplotlib.
    """
    need_matplotlib()
    rows = list(rows)
    steps = [row for row in rows if row["kind"] == "step"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    figure = make_figure(12, 8)
    loss, recall, rates, speed = figure.subplots(2, 2).flat
    for axes in (recall, rates):
        axes.set_prop_cycle(color=_COLOURS)
    _draw_steps_and_epochs(loss, "loss", steps, epochs, "loss")
    _draw_steps_and_epochs(speed, "images per second", steps, epochs, "images_per_second")
    rates.set_title("learning rate")
    for group in _names(steps, "lr"):
        _draw_line(rates, group, [(row["step"], row["lr"].get(group)) for row in steps if "lr" in row])
    recall.set_title("recall on the validation pairs, percent")
    for name in _names(epochs, "metrics"):
        points = [(row["step"], row["metrics"].get(name)) for row in epochs if "metrics" in row]
        _draw_line(recall, name.replace("_recall", "").replace("_", " "), points, marker=".")
    for best in [row["step"] for row in epochs if row.get("best") and row.get("metrics")][-1:]:
        recall.axvline(best, color=_GREY, linewidth=0.8, linestyle=":", label="best")
    for axes in (loss, recall, rates, speed):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        _add_legend(axes)
    return figure


def draw_histogram(
    title: str, edges: np.ndarray, counts: Mapping[str, np.ndarray], *, x_label: str, on_page: bool = False
) -> bytes:
    """Histograms over the same bins, each as shares in percent, as a PNG of 800 x 450 pixels. There is one edge more.

    Bins at both ends that are empty are left out. Returns b"" where all are empty. Raises MissingExtra without
    matplotlib.
    """
    need_matplotlib()
    used = np.flatnonzero(sum(np.asarray(each) for each in counts.values()))
    if not len(used):
        return b""
    bins = slice(int(used[0]), int(used[-1]) + 1)
    figure = make_figure(8, 4.5)
    axes = figure.subplots()
    axes.set_prop_cycle(color=_COLOURS)
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.grid(alpha=0.3)
    for name, each in counts.items():
        share = 100 * each[bins] / max(each.sum(), 1)
        axes.stairs(share, edges[bins.start : bins.stop + 1], fill=True, alpha=0.4, label=name)
    _add_legend(axes)
    return save_png(figure, on_page=on_page)


def draw_lines(title: str, x: Sequence[float], lines: Mapping[str, Sequence[float]], *, on_page: bool = False) -> bytes:
    """Lines over the same points, as a PNG of 800 x 450 pixels. Raises MissingExtra without matplotlib."""
    need_matplotlib()
    figure = make_figure(8, 4.5)
    axes = figure.subplots()
    axes.set_prop_cycle(color=_COLOURS)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    for name, values in lines.items():
        _draw_line(axes, name, list(zip(x, values, strict=True)), marker=".")
    _add_legend(axes)
    return save_png(figure, on_page=on_page)


def _draw_steps_and_epochs(
    axes: Axes, title: str, steps: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]], field: str
) -> None:
    """Each step faintly, its moving average, and the means of the epochs."""
    axes.set_title(title)
    average = Average()
    known = [(row["step"], row[field]) for row in steps if row.get(field) is not None]
    _draw_line(axes, None, known, color="tab:blue", alpha=0.25)
    _draw_line(axes, "moving average", [(step, average.add(value)) for step, value in known], color="tab:blue")
    _draw_line(axes, "epoch", [(row["step"], row.get(field)) for row in epochs], color="tab:orange", marker=".")


def _draw_line(
    axes: Axes,
    label: str | None,
    points: Sequence[tuple[float, float | None]],
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
    return list(dict.fromkeys(name for row in rows for name in row.get(field) or ()))


def _add_legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        for text in axes.legend(fontsize="small").get_texts():
            text.set_parse_math(False)  # a name may hold a dollar sign


def _fit_page(figure: Figure) -> None:
    figure.set_facecolor("none")
    for axes in figure.axes:
        axes.set_facecolor("none")
        axes.tick_params(colors=_GREY)
        for spine in axes.spines.values():
            spine.set_color(_GREY)
        texts = [axes.title, axes.xaxis.label, axes.yaxis.label, axes.xaxis.offsetText, axes.yaxis.offsetText]
        legend = axes.get_legend()
        if legend is not None:
            legend.get_frame().set(facecolor="none", edgecolor=_GREY)
            texts += legend.get_texts()
        for text in texts:
            text.set_color(_GREY)
