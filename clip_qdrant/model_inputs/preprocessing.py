"""Upright RGB images to the uint8 pixels an image encoder takes. Normalisation is part of the encoder's graph."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.reduction import Box, find_whole
from clip_qdrant.model_inputs.opencv import resize_bilinear
from clip_qdrant.model_inputs.patches import choose_grid, pack_patches

__all__ = ["EXACT_MARGIN", "Interpolation", "Preprocessing"]

_LARGEST = 2048  # pixels a side; published encoders take up to 1,024
_MOST_SCALED = 32  # how many times what is seen of it an image is scaled to; of what is longer only that part is made
_MOST_MARGIN = 16
_LARGEST_PATCH, _MOST_PATCHES = 64, 4096
EXACT_MARGIN = 6  # of published models: vectors stay within 0.0005 in cosine of those of whole images
_ALWAYS = ("image_size", "resize", "interpolation", "mean", "std")  # in the fingerprint of every encoder

Interpolation = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming", "opencv_bilinear"]
Resize = Literal["squash", "crop", "pad", "none", "patches"]
Offset = Literal["exact", "floor", "round"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How one encoder wants its images; part of its fingerprint.

    `resize` says what the image is scaled to, before as much of its middle is taken as the encoder sees:
    "squash" gives it the encoder's shape whatever its own, "crop" scales the short side and "pad" the long side to
    the encoder's, "none" takes the middle of the image as it is. What lies beyond the image is filled with `fill`.
    `image_size` is the side of a square, or the height beside another `width`. `scaled` is the side that "squash" and
    "crop" scale to, where it is another than that of what is taken.
    `offset` says where "crop" begins: "exact" takes the middle to fractions of a pixel, "floor" and "round" whole
    pixels as transformers and as torchvision (and with it open_clip) do, the halves of "round" to even.
    `interpolation` names a filter of Pillow, or OpenCV's bilinear one, which leaves out pixels when it makes smaller.
    `mean` and `std` are per RGB channel for pixel values between 0 and 1.
    `margin` is how many times the side that it is scaled to an image keeps where decoding may reduce it, which is
    faster: at 1 vectors of large noisy photographs are 0.01 in cosine off those of whole ones, at 6 they are 0.0004.
    "patches" keeps the image's shape and makes at most `patches` of it, each of `patch` pixels a side (`patches.py`);
    `image_size` is then the side of a square.
    """

    image_size: int = 224
    resize: Resize = "squash"
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    width: int | None = None
    scaled: int | None = None
    offset: Offset = "exact"
    fill: int = 0
    margin: int = 1
    patch: int | None = None
    patches: int | None = None

    def __post_init__(self) -> None:
        for name, side in (("image_size", self.image_size), ("width", self.width), ("scaled", self.scaled)):
            optional = side is None and name != "image_size"
            if not optional and (type(side) is not int or not 1 <= side <= _LARGEST):
                raise ConfigError(f"{name} is {side!r}: a whole number from 1 to {_LARGEST} is possible")
        for name, value, possible in (
            ("resize", self.resize, get_args(Resize)),
            ("interpolation", self.interpolation, get_args(Interpolation)),
            ("offset", self.offset, get_args(Offset)),
        ):
            if value not in possible:
                raise ConfigError(f"{name} is {value!r}: {', '.join(possible[:-1])} and {possible[-1]} are possible")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in values):
                raise ConfigError(f"{name} is {values!r}: three numbers are needed, for red, green and blue")
        if min(self.std) <= 0:
            raise ConfigError(f"std is {self.std!r}: it must be above 0")
        if type(self.fill) is not int or not 0 <= self.fill <= 255:
            raise ConfigError(f"fill is {self.fill!r}: a whole number from 0 to 255 is possible")
        if type(self.margin) is not int or not 1 <= self.margin <= _MOST_MARGIN:
            raise ConfigError(f"margin is {self.margin!r}: a whole number from 1 to {_MOST_MARGIN} is possible")
        self._check_combination()

    def _check_combination(self) -> None:
        if (self.resize == "patches") != (self.patch is not None) or (self.patch is None) != (self.patches is None):
            raise ConfigError(f"patch is {self.patch!r} and patches {self.patches!r}: resize='patches' needs both")
        for name, value, most in (("patch", self.patch, _LARGEST_PATCH), ("patches", self.patches, _MOST_PATCHES)):
            if value is not None and (type(value) is not int or not 1 <= value <= most):
                raise ConfigError(f"{name} is {value!r}: a whole number from 1 to {most} is possible")
        if self.scaled is not None and self.resize not in ("squash", "crop"):
            raise ConfigError(f"scaled is {self.scaled}: with resize={self.resize!r} it means nothing")
        if self.interpolation == "opencv_bilinear" and (self.resize != "squash" or self.scaled is not None):
            raise ConfigError("interpolation is 'opencv_bilinear': only resize='squash' without scaled goes with it")
        if self.offset == "exact" and self.resize == "crop" and (self.scaled or self.width):
            raise ConfigError("offset is 'exact': a crop with scaled or width begins at whole pixels, floor or round")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the uint8 array that one image becomes: (height, width, 3), or what `pack_patches` makes."""
        if self.patch is not None and self.patches is not None:
            return (1 + self.patches, 3 * self.patch**2)
        return (self.image_size, self.width or self.image_size, 3)

    @property
    def needed_side(self) -> int | None:
        """The short side in pixels that an image keeps at least when decoding reduces it.

        None where each pixel counts: filters that leave pixels out would take others.
        """
        if self.interpolation in ("nearest", "opencv_bilinear") or self.resize == "none":
            return None
        return self.margin * (self.scaled or max(self.image_size, self.width or 0))

    def __call__(self, rgb: Image.Image) -> np.ndarray:
        """Pixels of one image: uint8, of `shape`. An image that was reduced gives what the whole one would."""
        (wide, high), whole = find_whole(rgb)
        if self.patch is not None and self.patches is not None:
            across, down = choose_grid(wide, high, self.patch, self.patches)
            grid = self.resample(rgb, (across * self.patch, down * self.patch), whole)
            return pack_patches(grid, self.patch, self.patches)
        height, width = self.shape[:2]
        if rgb.size == (width, height) and (wide, high) == rgb.size and self.scaled is None:
            return np.asarray(rgb)
        columns, rows = self._scale(wide, high)
        left, top = self._choose_offset(columns, width), self._choose_offset(rows, height)
        # What of the encoder's window shows the scaled image, and the part of `rgb` that is seen there.
        seen = (max(left, 0), max(top, 0), min(left + width, columns), min(top + height, rows))
        size = (_whole(seen[2] - seen[0]), _whole(seen[3] - seen[1]))
        if seen == (*(map(_whole, seen)),) and columns * rows <= _MOST_SCALED * width * height:
            # All of it, as the reference does: Pillow rounds between its two passes, whose order depends on the size.
            scaled = self.resample(rgb, (_whole(columns), _whole(rows)), whole)
            part = scaled[_whole(seen[1]) : _whole(seen[3]), _whole(seen[0]) : _whole(seen[2])]
        else:
            part = self.resample(rgb, size, _project(seen, (columns, rows), whole))
        if size == (width, height):
            return part
        pixels = np.full((height, width, 3), self.fill, dtype=np.uint8)
        x, y = _whole(seen[0] - left), _whole(seen[1] - top)
        pixels[y : y + size[1], x : x + size[0]] = part
        return pixels

    def _scale(self, wide: int, high: int) -> tuple[float, float]:
        """Columns and rows of the image once it is scaled."""
        height, width = self.shape[:2]
        if self.resize == "none":
            return wide, high
        if self.resize == "squash":
            return (self.scaled, self.scaled) if self.scaled is not None else (width, height)
        if self.resize == "pad":  # open_clip's ResizeKeepRatio
            ratio = max(wide / width, high / height)
            return max(1, round(wide / ratio)), max(1, round(high / ratio))
        if self.width is not None and self.width != self.image_size and self.scaled is None:  # ResizeKeepRatio again
            ratio = min(wide / width, high / height)
            return max(1, round(wide / ratio)), max(1, round(high / ratio))
        side = self.scaled or self.image_size
        long = side * max(wide, high) / min(wide, high)
        if self.offset != "exact":
            long = int(long)  # as transformers and torchvision do
        return (side, long) if wide <= high else (long, side)

    def _choose_offset(self, side: float, window: int) -> float:
        """Where the window begins on a scaled side; below 0 where it is the larger one, as torchvision pads."""
        if side < window:
            return -((window - int(side)) // 2)
        if self.resize == "crop" and self.offset == "exact":
            return (side - window) / 2
        return round((side - window) / 2) if self.offset == "round" else int(side - window) // 2

    def resample(self, rgb: Image.Image, size: tuple[int, int], box: Box) -> np.ndarray:
        """The part of an image in `box` (left, top, right, bottom), scaled to `size` (width, height).

        uint8 (height, width, 3).
        """
        edges = (*map(_whole, box),)
        if box == edges and (edges[2] - edges[0], edges[3] - edges[1]) == size:
            return np.asarray(rgb.crop(edges))  # type: ignore[arg-type]  # four of them
        if self.interpolation == "opencv_bilinear":
            return resize_bilinear(np.asarray(rgb), size, box)
        # Beyond three times the size a box filter does the first part of the way, which is faster.
        gap = 3.0 if self.margin == 1 else None
        return np.asarray(rgb.resize(size, Image.Resampling[self.interpolation.upper()], box=box, reducing_gap=gap))

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `from_dict` reads it back. What has its default beyond the first five fields stands not
        there, so that it is no part of the fingerprint of others."""
        defaults = {field.name: field.default for field in fields(self) if field.name not in _ALWAYS}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {n: value for n, value in values.items() if n not in defaults or value != defaults[n]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**fields)


def _project(seen: Box, scaled: tuple[float, float], whole: Box) -> Box:
    """A box of the scaled image in pixels of the image in which the whole lies in `whole`."""
    left, top, right, bottom = whole
    x, y = (right - left) / scaled[0], (bottom - top) / scaled[1]
    return (
        max(left, left + seen[0] * x),
        max(top, top + seen[1] * y),
        right if seen[2] == scaled[0] else min(right, left + seen[2] * x),
        bottom if seen[3] == scaled[1] else min(bottom, top + seen[3] * y),
    )


def _whole(value: float) -> int:
    return round(value)
