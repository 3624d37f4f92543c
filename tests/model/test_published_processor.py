"""preprocessor_config.json: whatever it says, pixels are those of transformers' own processor, or it is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image
from tiny import pictures

from clip_qdrant.errors import CheckpointError
from clip_qdrant.model.published.processor import find_processor, read_preprocessing
from clip_qdrant.model_inputs.preprocessing import Preprocessing

CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
}
SIZES = [(80, 70), (33, 121), (121, 34), (300, 21), (32, 32), (7, 5), (1, 1)]
FAMILIES = {
    "CLIPImageProcessor": "clip",
    "ChineseCLIPImageProcessor": "chinese_clip",
    "SiglipImageProcessor": "siglip",
    "EfficientNetImageProcessor": "align",
    "ViTImageProcessor": "clip",
    "DeiTImageProcessor": "clip",
    "BlipImageProcessor": "clip",
    "BitImageProcessor": "clip",
}


def read(processor: dict[str, Any], *, image_size: int | None = None, family: str = "clip") -> Preprocessing:
    # A network that takes any size, unless the test says which.
    vision = SimpleNamespace(image_size=image_size, patch_size=8) if image_size else SimpleNamespace()
    return read_preprocessing(processor, SimpleNamespace(model_type=family, vision_config=vision), "hf:someone/model")


def normalize(preprocessing: Preprocessing, image: Image.Image) -> np.ndarray:
    values = (preprocessing(image) / 255.0 - preprocessing.mean) / preprocessing.std
    return np.asarray(values.transpose(2, 0, 1))  # (3, height, width)


def ask(processor: dict[str, Any], image: Image.Image, *, pil: bool = False) -> np.ndarray:
    name = processor["image_processor_type"] + ("Pil" if pil else "")
    values = {key: value for key, value in processor.items() if key != "image_processor_type"}
    return np.asarray(getattr(transformers, name)(**values)(image, return_tensors="np")["pixel_values"][0])


def invent(rng: random.Random) -> dict[str, Any]:
    """A configuration as they might be: much of it left out."""
    kind = rng.choice(list(FAMILIES))
    side, crop = rng.choice([32, 40, 24]), rng.choice([32, 36])
    sizes: list[Any] = [{"height": side, "width": side}, [side, side]]
    cropped = rng.random() < 0.6
    if cropped:
        sizes += [{"shortest_edge": side}, side, side]
    values: dict[str, Any] = {
        "image_processor_type": kind,
        "do_center_crop": cropped,
        "crop_size": rng.choice([crop, {"height": crop, "width": crop}, {"height": crop, "width": crop - 8}]),
        "size": rng.choice(sizes),
        "resample": rng.choice([1, 2, 3, 3]),
    }
    choices: dict[str, list[Any]] = {
        "do_normalize": [True, False],
        "do_rescale": [True, False],
        "rescale_factor": [1 / 255, 1 / 127.5, 0.01],
        "image_mean": [[0.1, 0.2, 0.3], [0.5] * 3],
        "image_std": [[0.2, 0.3, 0.4], [0.5] * 3],
        "do_convert_rgb": [True, False],
        "rescale_offset": [True, False],
        "include_top": [True, False],
    }
    efficient = kind == "EfficientNetImageProcessor"
    for name, possible in choices.items():
        if (efficient or name not in ("rescale_offset", "include_top")) and rng.random() < 0.4:
            values[name] = rng.choice(possible)
    return values


@pytest.mark.parametrize("seed", range(25))
def test_pixels_are_those_of_the_processor_of_transformers_whatever_it_says(seed: int) -> None:
    processor = invent(random.Random(seed))
    preprocessing = read(processor, family=FAMILIES[processor["image_processor_type"]])
    step = 1 / 255 / min(preprocessing.std)  # one value of a pixel
    for number, size in enumerate(SIZES):
        [image] = pictures(1, seed=number, size=size)
        ours, theirs = normalize(preprocessing, image), ask(processor, image)
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 3.01 * step, (processor, size)
        assert np.abs(ours - theirs).mean() <= 0.3 * step, (processor, size)


@pytest.mark.parametrize("resample", range(6))
def test_each_filter_of_pillow_gives_its_pixels(resample: int) -> None:
    processor = {**CLIP, "resample": resample}
    for number, size in enumerate(SIZES):
        [image] = pictures(1, seed=number, size=size)
        gap = np.abs(normalize(read(processor), image) - ask(processor, image, pil=True))
        assert gap.max() < 3 / 255 / 0.26


def test_images_of_odd_sizes_are_cropped_to_whole_pixels() -> None:
    [image] = pictures(1, size=(640, 427))
    processor = {**CLIP, "size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    gap = np.abs(normalize(read(processor), image) - ask(processor, image))
    assert gap.max() < 2.01 / 255 / 0.26 and gap.mean() < 0.05 / 255


@pytest.mark.parametrize("file", ["openai", "fast", "pil"])
def test_names_of_classes_of_long_ago_and_of_other_backends_are_known(file: str) -> None:
    # As openai/clip-vit-base-patch32 has it: sizes are numbers, and the class is that of a feature extractor.
    values: dict[str, dict[str, Any]] = {
        "openai": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "resample": 3},
        "fast": {**CLIP, "image_processor_type": "CLIPImageProcessorFast"},
        "pil": {**CLIP, "image_processor_type": "CLIPImageProcessorPil"},
    }
    assert read(values[file], image_size=32) == read(CLIP, image_size=32)


def test_what_is_missing_is_as_the_class_of_the_processor_has_it() -> None:
    clip, siglip = read({}), read({}, family="siglip")
    assert (clip.image_size, clip.resize, clip.mean[0]) == (224, "crop", 0.48145466)
    assert (siglip.image_size, siglip.resize, siglip.mean) == (224, "squash", (0.5, 0.5, 0.5))
    assert read({"image_processor_type": "ViTImageProcessor"}).interpolation == "bilinear"
    assert read({"image_mean": None, "image_std": None}) == clip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_processor_type": "FlavaImageProcessor"}, "is a FlavaImageProcessor; CLIPImageProcessor, "),
        ({"image_processor_type": "JinaCLIPImageProcessor"}, "is a JinaCLIPImageProcessor"),
        ({"do_resize": False, "do_center_crop": False}, "do_resize false"),
        ({"do_center_crop": False}, "scales the short side to 32 and crops nothing"),
        ({"size": {"longest_edge": 32}}, "size {'longest_edge': 32}"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "size .*'longest_edge': 64"),
        ({"size": {"max_pixels": 900, "min_pixels": 100}}, "size .*'max_pixels': 900"),
        ({"size": {"height": 40, "width": 32}}, "scales to 32 x 40 and crops 32 x 32"),
        ({"size": 32.5}, "size 32.5"),
        ({"crop_size": {"shortest_edge": 32}}, "crop_size"),
        ({"crop_size": 48}, "makes images of 48 x 48 pixels, and its network takes 32 x 32"),
        ({"resample": 9}, "resample 9"),
        ({"resample": "bicubic"}, "resample 'bicubic'"),
        ({"rescale_factor": 0}, "rescale_factor 0"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order True"),
        ({"do_pad": True, "pad_size": {"height": 64, "width": 64}}, "pad_size"),
    ],
)
def test_what_is_not_done_here_is_refused_by_name(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(CheckpointError, match=told) as caught:
        read({**CLIP, **changes}, image_size=32)
    assert "hf:someone/model" in str(caught.value)


def test_an_image_that_is_not_resized_is_cropped_or_laid_on_black(tmp_path: Path) -> None:
    processor = {**CLIP, "do_resize": False}
    for size in ((80, 70), (20, 50), (32, 32)):
        [image] = pictures(1, size=size)
        assert np.allclose(normalize(read(processor), image), ask(processor, image), atol=1e-5)


def test_the_processor_inside_processor_config_comes_first(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**CLIP, "resample": 2}))
    assert find_processor(tmp_path, "hf:a/b")["resample"] == 2
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert find_processor(tmp_path, "hf:a/b")["resample"] == 2
    inner = {"image_processor": {**CLIP, "resample": 1}, "processor_class": "CLIPProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(inner))
    assert find_processor(tmp_path, "hf:a/b")["resample"] == 1
    (tmp_path / "processor_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"its processor_config\.json cannot be read"):
        find_processor(tmp_path, "hf:a/b")


def test_a_model_without_a_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"hf:a/b has no preprocessor_config\.json"):
        find_processor(tmp_path, "hf:a/b")
