"""Samples of 2 to 16 bits in a TIFF that Pillow does not know: read as rows of bytes, and scaled to 8 bits here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from clip_qdrant.images.formats.tiff_directory import LONG, SHORT, Directory, Field, make_field

__all__ = ["PackedSamples", "find_packed"]

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_PLANAR, _PREDICTOR, _TILE_WIDTH, _EXTRA, _SAMPLE_FORMAT = 284, 317, 322, 338, 339
_WHITE_IS_ZERO, _GREY, _RGB = 0, 1, 2
_JPEGS = (6, 7)
_ALPHA = (1, 2)  # of ExtraSamples
_BAND_SAMPLES = 1 << 17


@dataclass(frozen=True, slots=True)
class PackedSamples:
    """How the samples lie in rows of bytes, and `fields`: the tags by which Pillow reads them as such rows."""

    size: tuple[int, int]
    mode: str
    bits: int
    samples: int  # of a pixel
    order: str
    inverted: bool  # white is zero
    fields: dict[int, Field]

    def unpack(self, rows: Any) -> Image.Image:
        """The picture, of L, LA, RGB or RGBA, from the rows as an image core of mode L."""
        width, height = self.size
        picture = Image.new(self.mode, self.size)
        step = max(1, _BAND_SAMPLES // (width * self.samples))
        for top in range(0, height, step):
            bottom = min(top + step, height)
            band = rows.crop((0, top, rows.size[0], bottom))
            packed = np.frombuffer(_to_bytes(band), np.uint8).reshape(bottom - top, -1)
            values = self._scale(self._spread(packed)).reshape(bottom - top, width, self.samples)
            bands = len(self.mode)
            picture.paste(
                Image.fromarray(values[..., 0] if bands == 1 else np.ascontiguousarray(values[..., :bands])), (0, top)
            )
        return picture

    def _spread(self, packed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Samples as whole numbers, (rows, width x samples), uint16 or uint32."""
        count = self.size[0] * self.samples
        if self.bits == 16:
            return packed.view(self.order + "u2")[:, :count]
        # Of the three bytes from the one in which a sample begins, its bits are the first but a few.
        first, skipped = np.divmod(np.arange(count) * self.bits, 8)
        three = np.pad(packed, ((0, 0), (0, 2))).astype(np.uint32)
        whole = three[:, first] << 16 | three[:, first + 1] << 8 | three[:, first + 2]
        return whole >> (24 - self.bits - skipped).astype(np.uint32) & np.uint32((1 << self.bits) - 1)

    def _scale(self, samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        top = (1 << self.bits) - 1
        scaled = ((samples.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
        return 255 - scaled if self.inverted else scaled


def _to_bytes(core: Any) -> bytes:
    image = Image.new("L", (1, 1))
    image.im, image._size = core, core.size
    return image.tobytes()


def find_packed(page: Directory) -> PackedSamples | None:
    """None for a page that Pillow reads rightly, or that is not read here either."""
    bits = set(page.integers(_BITS))
    photometric, samples = page.integer(_PHOTOMETRIC, 0), page.integer(_SAMPLES, 1)
    colours = 3 if photometric == _RGB else 1
    inverted = photometric == _WHITE_IS_ZERO
    if (
        len(bits) != 1
        or not 2 <= (depth := bits.pop()) <= 16
        or depth in (2, 4, 8)
        or (depth == 16 and not (inverted and samples == 1))
        or photometric not in (_WHITE_IS_ZERO, _GREY, _RGB)
        or not colours <= samples <= colours + 4
        or page.integer(_PLANAR, 1) != 1
        or page.integer(_PREDICTOR, 1) != 1
        or page.integer(_COMPRESSION, 1) in _JPEGS
        or set(page.integers(_SAMPLE_FORMAT)) - {1}
    ):
        return None
    width, length, order = page.integer(_WIDTH, 0), page.integer(_LENGTH, 0), page.order
    with_alpha = samples > colours and page.integer(_EXTRA, 0) in _ALPHA and not inverted
    numbers = {_WIDTH: math.ceil(width * samples * depth / 8), _PHOTOMETRIC: _GREY, _SAMPLES: 1}
    if tile := page.integer(_TILE_WIDTH, 0):
        numbers[_TILE_WIDTH] = tile * samples * depth // 8
    fields = {tag: make_field(order, LONG, number) for tag, number in numbers.items()}
    fields |= {_BITS: make_field(order, SHORT, 8), _SAMPLE_FORMAT: make_field(order, SHORT, 1)}
    mode = ("L" if colours == 1 else "RGB") + ("A" if with_alpha else "")
    return PackedSamples((width, length), mode, depth, samples, order, inverted, fields)
