"""preprocessor_config.json: what transformers does to an image before the network sees it, as data.

All that changes pixels is honoured as transformers' class of the processor does it, or refused by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model_inputs.preprocessing import EXACT_MARGIN, Interpolation, Preprocessing

__all__ = ["find_processor", "read_preprocessing"]

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)
# By Pillow's numbers, which are those of the files.
_FILTERS: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
_NEAREST_TO_255 = 1e-6
_PATCHES = "Siglip2ImageProcessor"


@dataclass(frozen=True)
class _ProcessorKind:
    """What a class of processor does where the file does not say."""

    size: Mapping[str, int]
    crop_size: Mapping[str, int] | None = None
    crops: bool = False
    resample: int = 3
    mean: tuple[float, float, float] = _HALF
    std: tuple[float, float, float] = _HALF
    normalizes: bool = True
    squares: bool = True  # a size that is one number is that of both sides, not of the short one
    classifies: bool = False  # EfficientNet's: divides by the deviation a second time, unless the file says otherwise


_SQUARE = {"height": 224, "width": 224}
_CLIP = _ProcessorKind({"shortest_edge": 224}, _SQUARE, crops=True, mean=_CLIP_MEAN, std=_CLIP_STD, squares=False)
_CLASSES: Mapping[str, _ProcessorKind] = {
    "CLIPImageProcessor": _CLIP,
    "ChineseCLIPImageProcessor": _CLIP,
    "BitImageProcessor": _CLIP,
    "SiglipImageProcessor": _ProcessorKind(_SQUARE, squares=False),
    _PATCHES: _ProcessorKind(_SQUARE, resample=2),
    "ViTImageProcessor": _ProcessorKind(_SQUARE, resample=2),
    "DeiTImageProcessor": _ProcessorKind({"height": 256, "width": 256}, _SQUARE, crops=True),
    "BlipImageProcessor": _ProcessorKind({"height": 384, "width": 384}, mean=_CLIP_MEAN, std=_CLIP_STD),
    "EfficientNetImageProcessor": _ProcessorKind(
        {"height": 346, "width": 346}, {"height": 289, "width": 289}, classifies=True
    ),
    "Tipsv2ImageProcessor": _ProcessorKind({"height": 448, "width": 448}, resample=2, normalizes=False),
}
# By model_type, for files that name no class.
_FAMILY_CLASSES: Mapping[str, str] = {
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
    "chinese_clip": "ChineseCLIPImageProcessor",
    "align": "EfficientNetImageProcessor",
    "tipsv2": "Tipsv2ImageProcessor",
}
_FILES = ("processor_config.json", "preprocessor_config.json")


def find_processor(folder: Path, label: str) -> Mapping[str, Any]:
    """What the files of a model say of its images. `label` is the name in messages. Raises CheckpointError."""
    for file in _FILES:
        try:
            values = json.loads((folder / file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot load {label}: its {file} cannot be read: {error}") from error
        if isinstance(values, dict) and file == "processor_config.json":
            values = values.get("image_processor")  # what else it holds is of texts
        if isinstance(values, dict):
            return values
    raise CheckpointError(
        f"{label} has no {_FILES[1]}, and so does not say how its images are resized: copy that file from the model "
        "it was made of"
    )


def read_preprocessing(processor: Mapping[str, Any], config: Any, label: str) -> Preprocessing:
    """What a processor makes of images, for the network of a configuration. `label` is the name in messages.

    Raises CheckpointError for what is not done here, with its name and value.
    """
    reader = _ProcessorFile(processor, label, str(config.model_type))
    if reader.name == _PATCHES:
        return reader.read_patches(config.vision_config)
    height, width, resize, scaled = reader.read_geometry()
    mean, std = reader.read_scale()
    vision = getattr(config, "vision_config", None)
    wanted = getattr(vision, "image_size", None)
    if isinstance(wanted, int) and hasattr(vision, "patch_size") and (height, width) != (wanted, wanted):
        raise reader.refusal(f"makes images of {width} x {height} pixels, and its network takes {wanted} x {wanted}")
    interpolation = reader.read_filter()
    return Preprocessing(
        image_size=height,
        width=None if width == height else width,
        resize=resize,  # type: ignore[arg-type]  # one of its values
        scaled=scaled,
        interpolation=interpolation,
        mean=mean,
        std=std,
        offset="exact" if resize == "squash" and scaled is None else "floor",
        margin=1 if resize == "none" or interpolation == "nearest" else EXACT_MARGIN,
    )


class _ProcessorFile:
    """One processor's values, those of its class where the file has none."""

    def __init__(self, values: Mapping[str, Any], label: str, family: str) -> None:
        self._values, self._label = values, label
        self.name = _find_class(values, family)
        if self.name not in _CLASSES:
            raise self.refusal(f"is a {self.name}; {', '.join(_CLASSES)} are known")
        self.row = _CLASSES[self.name]
        for name, value in values.items():
            known = name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_pad", "do_convert_rgb")
            if name.startswith("do_") and value and not known:
                raise self.refusal(f"has {name} {value!r}, which is not done here")

    def get(self, name: str, default: Any) -> Any:
        """A value of the file; one that is null counts as none."""
        value = self._values.get(name)
        return default if value is None else value

    def refusal(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"cannot load {self._label}: its image processor {what}. Its images would not be seen as it was trained; "
            "take another model, or correct its preprocessor_config.json"
        )

    def read_filter(self) -> Interpolation:
        resample = self.get("resample", self.row.resample)
        if type(resample) is not int or not 0 <= resample < len(_FILTERS):
            raise self.refusal(f"has resample {resample!r}; 0 to {len(_FILTERS) - 1} are filters of Pillow")
        return _FILTERS[resample]

    def read_patches(self, vision: Any) -> Preprocessing:
        """NaFlex: images keep their shapes."""
        if not self.get("do_resize", True):
            raise self.refusal("has do_resize false, so that images would have to be of whole patches already")
        side, most = self.get("patch_size", 16), self.get("max_num_patches", 256)
        if type(side) is not int or type(most) is not int or min(side, most) < 1 or side != vision.patch_size:
            raise self.refusal(
                f"makes {most!r} patches of {side!r} pixels a side, and its network takes those of {vision.patch_size}"
            )
        mean, std = self.read_scale()
        return Preprocessing(
            image_size=math.isqrt(most) * side,
            resize="patches",
            interpolation=self.read_filter(),
            mean=mean,
            std=std,
            margin=EXACT_MARGIN,
            patch=side,
            patches=most,
        )

    def read_geometry(self) -> tuple[int, int, str, int | None]:
        """Height and width of what the network sees, how images come to it, and the side that they are scaled to."""
        crop = self._read_crop() if self.get("do_center_crop", self.row.crops) else None
        size = self._read_size() if self.get("do_resize", True) else None
        if size is None:
            if crop is None:
                raise self.refusal("has do_resize false and crops nothing, so that images keep their sizes")
            return (*crop, "none", None)
        short, (height, width) = size
        if short and crop is None:
            raise self.refusal(f"scales the short side to {height} and crops nothing, so that images keep their shapes")
        seen = crop or (height, width)
        if self.get("do_pad", False):
            self._check_padding(seen)
        if short:
            return (*seen, "crop", None if seen == (height, height) else height)
        if seen == (height, width):
            return (*seen, "squash", None)
        if height != width:
            raise self.refusal(
                f"scales to {width} x {height} and crops {seen[1]} x {seen[0]}: only squares are cropped here"
            )
        return (*seen, "squash", height)

    def _read_size(self) -> tuple[bool, tuple[int, int]]:
        """Whether it is the short side that is scaled, and the height and width that are scaled to."""
        size = self.get("size", self.row.size)
        if type(size) is int:
            size = _make_square(size) if self.get("default_to_square", self.row.squares) else {"shortest_edge": size}
        elif isinstance(size, list | tuple) and len(size) == 2:
            size = {"height": size[0], "width": size[1]}
        sides = {n: side for n, side in size.items() if side is not None} if isinstance(size, Mapping) else {}
        if not all(type(side) is int and side > 0 for side in sides.values()):
            sides = {}
        if set(sides) == {"shortest_edge"}:
            return True, (sides["shortest_edge"],) * 2
        if set(sides) == {"height", "width"}:
            return False, (sides["height"], sides["width"])
        raise self.refusal(f"has size {size!r}: height and width, or shortest_edge alone, are done here")

    def _read_crop(self) -> tuple[int, int]:
        size = self.get("crop_size", self.row.crop_size)
        if type(size) is int:
            size = _make_square(size)
        elif isinstance(size, list | tuple) and len(size) == 2:
            size = {"height": size[0], "width": size[1]}
        height, width = (size.get("height"), size.get("width")) if isinstance(size, Mapping) else (None, None)
        if type(height) is not int or type(width) is not int or min(height, width) < 1:
            raise self.refusal(f"has crop_size {size!r}: a height and a width are needed")
        return height, width

    def _check_padding(self, seen: tuple[int, int]) -> None:
        size = self._values.get("pad_size")
        if isinstance(size, Mapping):
            size = (size.get("height"), size.get("width"))
        if size not in (None, seen, list(seen), *seen[: seen[0] == seen[1]]):
            raise self.refusal(f"has do_pad true and pad_size {self._values['pad_size']!r}, which is not done here")

    def read_scale(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and deviation of pixel values from 0 to 1, to which all that is done to them comes down."""
        factor = self._read_factor() * 255 if self.get("do_rescale", True) else 255.0
        plain = abs(factor - 1) < _NEAREST_TO_255
        normalizes = self.get("do_normalize", self.row.normalizes)
        mean, std = self._read_three("image_mean", self.row.mean), self._read_three("image_std", self.row.std)
        efficient = self.name == "EfficientNetImageProcessor"
        shift = 1.0 if efficient and self.get("rescale_offset", False) and self.get("do_rescale", True) else 0.0
        again = efficient and self.get("include_top", self.row.classifies)
        if plain and normalizes and not shift and not again:
            return mean, std

        def combine(channel: int) -> tuple[float, float]:
            gain, offset = (1.0 if plain else factor), -shift
            if normalizes:
                gain, offset = gain / std[channel], (offset - mean[channel]) / std[channel]
            if again:
                gain, offset = gain / std[channel], offset / std[channel]
            return -offset / gain + 0.0, 1 / gain  # + 0.0: no negative zero

        (red, green, blue) = (combine(channel) for channel in range(3))
        return (red[0], green[0], blue[0]), (red[1], green[1], blue[1])

    def _read_factor(self) -> float:
        factor = self.get("rescale_factor", 1 / 255)
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 0:
            raise self.refusal(f"has rescale_factor {factor!r}: a number above 0 is needed")
        return float(factor)

    def _read_three(self, name: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        values = self.get(name, default)
        if isinstance(values, int | float) and not isinstance(values, bool):
            values = (values,) * 3
        if not isinstance(values, list | tuple) or len(values) != 3:
            raise self.refusal(f"has {name} {values!r}: one number, or three for red, green and blue, are needed")
        if not all(isinstance(value, int | float) for value in values) or (name == "image_std" and min(values) <= 0):
            raise self.refusal(f"has {name} {values!r}: numbers are needed, those of a deviation above 0")
        return float(values[0]), float(values[1]), float(values[2])


def _find_class(values: Mapping[str, Any], family: str) -> str:
    """Named in the file as of today, as long ago ("CLIPFeatureExtractor"), or by the family of the model."""
    name = values.get("image_processor_type") or values.get("feature_extractor_type")
    name = str(name or _FAMILY_CLASSES.get(family, "CLIPImageProcessor")).replace("FeatureExtractor", "ImageProcessor")
    return name.removesuffix("Fast").removesuffix("Pil")


def _make_square(side: int) -> Mapping[str, int]:
    return {"height": side, "width": side}
