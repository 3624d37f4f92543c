"""preprocessor_config.json: what a model's own library does to an image before the network sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip_qdrant.model_inputs.preprocessing import Preprocessing

__all__ = ["read_preprocessing"]

_BILINEAR = 2  # PIL's numbers, as preprocessor_config.json writes them


def read_preprocessing(processor: Mapping[str, Any], image_size: int) -> Preprocessing:
    """What preprocessor_config.json asks for, as far as it concerns square inputs."""

    def three(key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        values = processor.get(key) or default
        return (float(values[0]), float(values[1]), float(values[2]))

    crop = bool(processor.get("do_center_crop", "crop_size" in processor))
    return Preprocessing(
        image_size=image_size,
        resize="crop" if crop else "squash",
        interpolation="bilinear" if processor.get("resample") == _BILINEAR else "bicubic",
        mean=three("image_mean", (0.5, 0.5, 0.5)),
        std=three("image_std", (0.5, 0.5, 0.5)),
    )
