"""Pixels are those of the libraries whose resize they follow, of images whole or reduced; fingerprints stay."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from open_clip.transform import image_transform
from PIL import Image
from resizing import sample_bilinear
from tiny import pictures

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.load import load_image
from clip_qdrant.model_inputs.opencv import resize_bilinear
from clip_qdrant.model_inputs.preprocessing import Preprocessing

SIZES = [(80, 70), (33, 121), (121, 34), (400, 10), (32, 32), (7, 5), (1, 1), (65, 64), (64, 65)]


def gap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("mode", "ours"),
    [
        ("shortest", {"resize": "crop", "offset": "round"}),
        ("longest", {"resize": "pad", "offset": "round", "fill": 7}),
        ("squash", {"resize": "squash"}),
    ],
)
def test_the_three_ways_of_open_clip(mode: str, ours: dict[str, Any], size: tuple[int, int]) -> None:
    [image] = pictures(1, size=size)
    plain = image_transform(32, False, (0, 0, 0), (1, 1, 1), mode, "bicubic", 7)
    if mode == "longest" and min(size) * 32 / max(size) < 0.5:
        pytest.skip("open_clip makes an image of no pixels of it, and fails")
    theirs = np.asarray(plain(image)).transpose(1, 2, 0) * 255
    assert gap(Preprocessing(image_size=32, margin=3, **ours)(image), theirs) < 1.01


@pytest.mark.parametrize("size", [(50, 41), (9, 30), (64, 64), (1, 1), (3, 90)])
def test_opencv_bilinear_takes_four_neighbours_and_averages_no_others(size: tuple[int, int]) -> None:
    [image] = pictures(1, size=size)
    pixels = np.asarray(image)
    ours = Preprocessing(image_size=32, interpolation="opencv_bilinear")(image)
    assert gap(ours, sample_bilinear(pixels, (32, 32))) < 1.51
    assert np.abs(ours - sample_bilinear(pixels, (32, 32))).mean() < 0.5


def test_opencv_bilinear_gives_the_pixels_of_opencv_where_it_is_installed() -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width, high, wide = (int(side) for side in rng.integers(1, 200, 4))
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        apart = np.abs(cv2.resize(pixels, (wide, high)).astype(int) - resize_bilinear(pixels, (wide, high)))
        assert apart.max() <= 1 and apart.mean() < 0.1


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_a_photo_that_decoding_reduced_is_cropped_where_the_whole_one_is(orientation: int, resize: str) -> None:
    [picture] = pictures(1, size=(1003, 605))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, exif=exif)
    preprocessing = Preprocessing(image_size=32, resize=resize, offset="floor", margin=3)  # type: ignore[arg-type]
    reduced = load_image(file.getvalue(), target=preprocessing.needed_side).rgb
    whole = load_image(file.getvalue()).rgb
    assert min(reduced.size) < min(whole.size) / 2
    assert np.abs(preprocessing(reduced).astype(float) - preprocessing(whole)).mean() < 0.6


def test_what_leaves_pixels_out_is_given_whole_images() -> None:
    assert Preprocessing(interpolation="opencv_bilinear").needed_side is None
    assert Preprocessing(interpolation="nearest").needed_side is None
    assert Preprocessing(resize="none").needed_side is None
    assert Preprocessing(image_size=224, resize="crop", scaled=256, offset="floor", margin=2).needed_side == 512


def test_a_thin_image_of_many_pixels_is_not_scaled_as_a_whole() -> None:
    image = Image.new("RGB", (30_000, 2), (9, 90, 200))
    pixels = Preprocessing(image_size=224, resize="crop", offset="floor", margin=3)(image)
    assert pixels.shape == (224, 224, 3) and (pixels == (9, 90, 200)).all()


def test_height_and_width_may_differ() -> None:
    preprocessing = Preprocessing(image_size=32, width=48)
    assert preprocessing.shape == preprocessing(pictures(1)[0]).shape == (32, 48, 3)


def test_what_came_later_stands_in_the_dict_only_where_it_is_used() -> None:
    assert list(Preprocessing().to_dict()) == ["image_size", "resize", "interpolation", "mean", "std"]
    one = Preprocessing(resize="crop", scaled=256, offset="floor", margin=3)
    assert one.to_dict()["scaled"] == 256 and Preprocessing.from_dict(one.to_dict()) == one


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"offset": "middle"}, "offset is 'middle'"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic'"),
        ({"resize": "pad", "scaled": 8}, "scaled is 8"),
        ({"resize": "crop", "interpolation": "opencv_bilinear"}, "only resize='squash'"),
        ({"resize": "crop", "scaled": 8}, "offset is 'exact'"),
        ({"fill": 300}, "fill is 300"),
        ({"margin": 0}, "margin is 0"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_what_means_nothing_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Preprocessing(**values)
