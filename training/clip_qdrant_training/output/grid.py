"""Pictures in a grid, each above its caption: what a model gets to see, and what it has found."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.images.load import load_image
from clip_qdrant_training.data.pairs import image_input, image_name
from clip_qdrant_training.evaluation.matches import Match
from clip_qdrant_training.output.curves import need_matplotlib
from clip_qdrant_training.output.files import write_picture

__all__ = ["SAMPLES", "draw_matches", "draw_samples"]

SAMPLES = 64  # images in samples.png: eight by eight is what one looks at

_MATCH_SIDE = 224  # pixels of a match
_NARROWEST = 160  # pixels of a cell: below it a caption has no room

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_samples(folder: str | Path, pixels: np.ndarray, captions: Sequence[str]) -> Path:
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
    font = ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 11)
    pictures = [Image.fromarray(image) for image in pixels[:SAMPLES]]
    path = Path(folder) / "samples.png"
    write_picture(path, _draw_grid(pictures, captions[:SAMPLES], font, 15, lines=4, margin=4))
    return path


def draw_matches(matches: list[Match], path: str | Path) -> None:
    """Draws the images in a grid, with score and first caption underneath, to a PNG file.

    Raises TrainingError for a file that cannot be written, ImageError for an image.
    """
    if not matches:
        raise TrainingError("there are no matches to draw")
    pictures, captions = [], []
    for number, match in enumerate(matches):
        name = image_name(match.image, number)
        rgb = load_image(image_input(match.image), target=_MATCH_SIDE, name=name).rgb.copy()
        rgb.thumbnail((_MATCH_SIDE, _MATCH_SIDE))
        picture = Image.new("RGB", (_MATCH_SIDE, _MATCH_SIDE), "white")
        picture.paste(rgb, ((_MATCH_SIDE - rgb.width) // 2, (_MATCH_SIDE - rgb.height) // 2))
        pictures.append(picture)
        captions.append(f"{match.score:.3f}  {match.captions[0] if match.captions else ''}")
    content = _draw_grid(pictures, captions, ImageFont.load_default(14), 18, lines=3, margin=8)
    write_picture(Path(path), content, what="the grid of matches")


def _draw_grid(
    pictures: Sequence[Image.Image], captions: Sequence[str], font: Font, line_height: int, *, lines: int, margin: int
) -> bytes:
    """A PNG of pictures of one size in about as many rows as columns. A caption has `lines`, and never reaches a
    neighbour."""
    width, height = pictures[0].size
    room = max(width, _NARROWEST)
    cell_width, cell_height = room + 2 * margin, height + lines * line_height + 3 * margin
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    grid = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(grid)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = number % columns * cell_width, number // columns * cell_height
        grid.paste(picture, (left + margin + (room - width) // 2, top + margin))
        for line, words in enumerate(_wrap(caption, font, room, lines)):
            position = (left + margin, top + height + 2 * margin + line * line_height)
            draw.text(position, words, fill="black", font=font)
    buffer = io.BytesIO()
    grid.save(buffer, "PNG")
    return buffer.getvalue()


def _wrap(text: str, font: Font, room: int, count: int) -> list[str]:
    """The text in lines no wider than `room`, at most `count` of them; what does not fit ends in three dots."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))
    lines = [""]
    for piece in (piece for word in printable.split() for piece in _split(word, font, room)):
        longer = f"{lines[-1]} {piece}".strip()
        if font.getlength(longer) <= room:
            lines[-1] = longer
        elif len(lines) == count:
            while lines[-1] and font.getlength(lines[-1] + "...") > room:
                lines[-1] = lines[-1][:-1]
            lines[-1] += "..."
            break
        else:
            lines.append(piece)
    return lines


def _split(word: str, font: Font, room: int) -> list[str]:
    """A word in pieces no wider than `room`: a script without spaces has whole sentences of them."""
    pieces = [""]
    for character in word:
        if font.getlength(pieces[-1] + character) > room:
            pieces.append("")
        pieces[-1] += character
    return pieces
