"""Random views of a training image: a crop with a little stretch, other light and colour, the mirror image.

A view is drawn from a `random.Random` and applied later, by any thread: the same seed gives the same pixels.
"Left" and "right" in a caption turn with a mirrored image, so that the model goes on to tell them apart.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from clip_qdrant.errors import ConfigError
from clip_qdrant.model_inputs.preprocessing import Preprocessing

__all__ = ["Augmentation", "Flip", "View", "draw", "says_side", "swap_sides"]

Flip = Literal["off", "words", "unsided"]

_SIDE = re.compile(r"\b(left|right)(?=(?:most|wards?|hand(?:ed)?)?\b)", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the grey of Pillow's convert("L")


@dataclass(frozen=True)
class Augmentation:
    """How far a view may be from its image.

    `crop`: the smallest share of the area that is kept; 1 keeps all. `ratio`: by how much a crop may be stretched;
    1 keeps the proportions. `colour`: brightness, contrast and saturation each change by up to this share.
    `grey`: the probability of no colour at all. `flip`: "words" mirrors half of the images, for the caller to pass
    their captions through `swap_sides`; "unsided" only those whose captions name no side; "off" none.
    """

    crop: float = 0.6
    ratio: float = 1.25
    colour: float = 0.2
    grey: float = 0.0
    flip: Flip = "words"

    def __post_init__(self) -> None:
        self._check("crop", 0 < _number(self.crop) <= 1, "a share of the area, above 0 and up to 1")
        self._check("ratio", 1 <= _number(self.ratio) < math.inf, "a stretch, from 1")
        self._check("colour", 0 <= _number(self.colour) < 1, "a share, from 0 to below 1")
        self._check("grey", 0 <= _number(self.grey) <= 1, "a probability, from 0 to 1")
        self._check("flip", self.flip in get_args(Flip), f"one of {', '.join(get_args(Flip))}")

    @property
    def is_off(self) -> bool:
        """Whether it changes nothing."""
        return (self.crop, self.ratio, self.colour, self.grey, self.flip) == (1.0, 1.0, 0.0, 0.0, "off")

    def _check(self, name: str, fine: bool, wanted: str) -> None:
        if not fine:
            raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be {wanted}")


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at an image. `box` is (left, top, right, bottom) in its pixels; 1.0 leaves a colour alone."""

    box: tuple[float, float, float, float]
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    grey: bool = False

    def apply(self, rgb: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
        """Pixels of the view of an image of the size it was drawn for: uint8 (image_size, image_size, 3).

        The whole image with nothing changed gives what `preprocessing` gives.
        """
        height, width = preprocessing.shape[:2]
        size = (width, height)
        box = self.box if preprocessing.resize == "squash" else _unsquash(self.box, rgb.size)
        seen = Image.fromarray(preprocessing.resample(rgb, size, box))
        pixels = np.asarray(self._adjust_colours(seen))
        return np.ascontiguousarray(pixels[:, ::-1]) if self.mirrored else pixels

    def _adjust_colours(self, rgb: Image.Image) -> Image.Image:
        """Brightness, then contrast about the mean grey, then saturation, as ImageEnhance defines them, in one pass.

        All three are affine in a pixel's channels, so their product is: clipped and rounded once, at the end.
        """
        saturation = 0.0 if self.grey else self.saturation
        if (self.brightness, self.contrast, saturation) == (1.0, 1.0, 1.0):
            return rgb
        mean = rgb.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        assert isinstance(mean, tuple), "an RGB image has three channels"
        offset = (1 - self.contrast) * self.brightness * sum(w * c for w, c in zip(_LUMA, mean, strict=True))
        gain = self.brightness * self.contrast
        rows = [
            (*(gain * ((1 - saturation) * luma + saturation * (row == column)) for column, luma in enumerate(_LUMA)),)
            for row in range(3)
        ]
        return rgb.convert("RGB", tuple(value for row in rows for value in (*row, offset)))


def draw(augmentation: Augmentation, rng: random.Random, size: tuple[int, int], *, sided: bool) -> View:
    """A random view of an image of `size` (width, height); `sided`: a caption of it names a side.

    The crop follows RandomResizedCrop (Szegedy et al. 2015, section 6), with its stretch measured against the
    proportions of the image, not against a square. As many numbers are drawn whatever the size and the options, so
    the size has no say in whether a view is mirrored.
    """
    width, height = size
    area = rng.uniform(augmentation.crop, 1.0)
    stretch = math.exp(rng.uniform(-1.0, 1.0) * math.log(augmentation.ratio))
    # Not stretched beyond the image: what juts out would be lost, and less than `crop` kept.
    stretch = min(max(stretch, area), 1 / area)
    wide, high = (min(math.sqrt(area * stretch), 1.0) * width, min(math.sqrt(area / stretch), 1.0) * height)
    left, top = rng.random() * (width - wide), rng.random() * (height - high)
    brightness, contrast, saturation = (1 + augmentation.colour * rng.uniform(-1.0, 1.0) for _ in range(3))
    grey, mirrored = rng.random() < augmentation.grey, rng.random() < 0.5
    return View(
        box=(left, top, min(left + wide, width), min(top + high, height)),
        mirrored=mirrored and (augmentation.flip == "words" or (augmentation.flip == "unsided" and not sided)),
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        grey=grey,
    )


def says_side(caption: str) -> bool:
    """Whether a caption has left or right as a word of its own, as in "on the left" or "right-handed"."""
    return _SIDE.search(caption) is not None


def swap_sides(caption: str) -> str:
    """A caption for the mirror image: left and right exchanged, their case kept.

    The word decides, not its meaning: "has left behind" changes too, which is rare and costs little.
    """
    return _SIDE.sub(lambda match: _like(match[0], _OTHER[match[0].lower()]), caption)


def _like(model: str, word: str) -> str:
    """`word` in the case of `model`."""
    return word.upper() if model.isupper() else word.capitalize() if model[0].isupper() else word


def _unsquash(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest part of a box, about its middle, that a square shows stretched by as much as the box is stretched
    against its image."""
    left, top, right, bottom = box
    stretch = (right - left) / (bottom - top) * size[1] / size[0]
    wide = min(right - left, (bottom - top) * stretch)
    high = min(bottom - top, wide / stretch)
    left, top = left + (right - left - wide) / 2, top + (bottom - top - high) / 2
    return (left, top, min(left + wide, right), min(top + high, bottom))


def _number(value: object) -> float:
    """NaN, which is in no range, for what is no number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
