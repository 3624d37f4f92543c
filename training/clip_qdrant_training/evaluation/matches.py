"""The images a model finds for a text, as a look at what it has learned: found, and drawn as a grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.images.load import load_image
from clip_qdrant_training.data.read import Pair, as_pairs, image_input, image_name, pair_keys

__all__ = ["Match", "draw_matches", "find_matches"]

_SIDE = 224  # pixels of a picture in the grid
_GAP = 12
_LINES = 3  # of text below a picture
_FONT_SIZE = 14
_LINE_HEIGHT = 18


@dataclass(frozen=True, slots=True)
class Match:
    """An image found for a text; `score` is the cosine similarity, `captions` what the data says of the image."""

    image: Any  # as it was given
    score: float
    captions: tuple[str, ...]


def find_matches(
    embedder: Embedder,
    pairs: str | Path | Iterable[Any],
    query: str,
    *,
    n: int = 9,
    vectors: np.ndarray | None = None,
) -> list[Match]:
    """The n images nearest to the query, best first, each image once, however many captions or rows it has.

    `pairs` is what `as_pairs` takes, or images without captions. `vectors` are the unit rows (rows, dim) of the images
    of `pairs` in order, to ask more than once without embedding again.
    """
    if n < 1:
        raise ConfigError(f"n is {n}: ask for one match at least")
    items = as_pairs(pairs) if isinstance(pairs, (str, Path)) else [_pair(item) for item in pairs]
    if not items:
        raise TrainingError("there are no images to look through")
    if vectors is not None and vectors.shape != (len(items), embedder.dim):
        raise ConfigError(f"vectors are {vectors.shape}, expected ({len(items)}, {embedder.dim}): one row an image")
    keys, first, group = np.unique(pair_keys(items), return_index=True, return_inverse=True)
    captions: list[dict[str, None]] = [{} for _ in keys]  # dicts keep the order and drop what is there already
    for item, number in zip(items, group, strict=True):
        captions[number].update(dict.fromkeys(item.captions))
    rows = embedder.embed_images(image_input(items[i].image) for i in first) if vectors is None else vectors[first]
    scores = rows @ embedder.embed_texts([query])[0]
    if not np.isfinite(scores).all():
        raise TrainingError("the vectors hold values that are no numbers: there is nothing to rank")
    best = np.argsort(-scores, kind="stable")[:n]
    return [Match(items[first[i]].image, float(scores[i]), tuple(captions[i])) for i in best]


def draw_matches(matches: list[Match], path: str | Path) -> None:
    """Draws the images in a grid, with score and first caption underneath, to a PNG file.

    Raises TrainingError for a file that cannot be written, ImageError for an image.
    """
    if not matches:
        raise TrainingError("there are no matches to draw")
    columns = math.ceil(math.sqrt(len(matches)))
    rows = math.ceil(len(matches) / columns)
    width, height = _SIDE + _GAP, _SIDE + _LINES * _LINE_HEIGHT + 2 * _GAP
    canvas = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    font = ImageFont.load_default(_FONT_SIZE)
    for number, match in enumerate(matches):
        row, column = divmod(number, columns)
        left, top = _GAP + column * width, _GAP + row * height
        picture = load_image(image_input(match.image), target=_SIDE, name=image_name(match.image, number)).rgb.copy()
        picture.thumbnail((_SIDE, _SIDE))
        canvas.paste(picture, (left + (_SIDE - picture.width) // 2, top + (_SIDE - picture.height) // 2))
        text = f"{match.score:.3f}  {match.captions[0] if match.captions else ''}"
        for line, words in enumerate(_wrapped(text, font)):
            position = (left, top + _SIDE + _GAP // 2 + line * _LINE_HEIGHT)
            ImageDraw.Draw(canvas).text(position, words, fill="black", font=font)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.save(path, "PNG")
    except OSError as error:
        raise TrainingError(f"cannot write the grid of matches to {path}: {error.strerror or error}") from error


def _pair(item: Any) -> Pair:
    """A row of `pairs`; an image by itself has no captions."""
    if isinstance(item, (Pair, Mapping)) or (isinstance(item, (tuple, list)) and len(item) == 2):
        return as_pairs([item])[0]
    return Pair(item, ())


def _wrapped(text: str, font: Any) -> list[str]:
    """The text in lines that fit below a picture; what does not fit ends in three dots."""
    lines = [""]
    words = [piece for word in text.split() for piece in _pieces(word, font)]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= _SIDE:
            lines[-1] = longer
        elif len(lines) == _LINES:
            while lines[-1] and font.getlength(lines[-1] + "...") > _SIDE:
                lines[-1] = lines[-1][:-1]
            lines[-1] += "..."
            break
        else:
            lines.append(word)
    return lines


def _pieces(word: str, font: Any) -> list[str]:
    """A word in pieces no wider than a picture: a script without spaces has whole sentences of them."""
    pieces = [""]
    for character in word:
        if font.getlength(pieces[-1] + character) > _SIDE:
            pieces.append("")
        pieces[-1] += character
    return pieces
