"""Upright RGB images to the uint8 pixels an image encoder takes. Normalisation is part of the encoder's graph."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from clip_qdrant.errors import ConfigError

__all__ = ["Preprocessing"]

_LARGEST = 2048  # pixels a side; published encoders take up to 1,024
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How one encoder wants its images; part of its fingerprint.

    `resize`: "squash" makes the whole image square, "crop" scales the short side and takes the centre.
    `mean` and `std` are per RGB channel for pixel values between 0 and 1.
    """

    image_size: int = 224
    resize: Literal["squash", "crop"] = "squash"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if type(self.image_size) is not int or not 1 <= self.image_size <= _LARGEST:
            raise ConfigError(f"image_size is {self.image_size!r}: a whole number from 1 to {_LARGEST} is possible")
        if self.resize not in ("squash", "crop"):
            raise ConfigError(f"resize is {self.resize!r}: squash and crop are possible")
        if self.interpolation not in _FILTERS:
            raise ConfigError(f"interpolation is {self.interpolation!r}: {' and '.join(_FILTERS)} are possible")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in values):
                raise ConfigError(f"{name} is {values!r}: three numbers are needed, for red, green and blue")
        if min(self.std) <= 0:
            raise ConfigError(f"std is {self.std!r}: it must be above 0")

    def __call__(self, rgb: Image.Image) -> np.ndarray:
        """Pixels of one image: uint8 (image_size, image_size, 3)."""
        size, how = self.image_size, _FILTERS[self.interpolation]
        if rgb.size == (size, size):
            return np.asarray(rgb)
        if self.resize == "squash":
            return np.asarray(rgb.resize((size, size), how, reducing_gap=3.0))
        side = min(rgb.size)
        left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(rgb.resize((size, size), how, box=box, reducing_gap=3.0))

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; `from_dict` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**fields)
