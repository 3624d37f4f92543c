"""Views of a training image keep within their bounds, look as drawn, and turn left and right with the picture."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from tiny import pictures

from clip_qdrant.errors import ConfigError
from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant_training.data.augment import Augmentation, View, draw, says_side, swap_sides

PREPROCESSING = Preprocessing(image_size=32)


def views(
    augmentation: Augmentation, size: tuple[int, int] = (80, 60), *, sided: bool = False, n: int = 400
) -> list[View]:
    rng = random.Random(0)
    return [draw(augmentation, rng, size, sided=sided) for _ in range(n)]


def whole(image: Image.Image, **changes: object) -> View:
    return View(box=(0, 0, *image.size), **changes)  # type: ignore[arg-type]  # the fields of View


def apart(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left.astype(int) - right.astype(int)).max())


@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.floats(0.01, 1.0),
    st.floats(1.0, 4.0),
    st.integers(0, 2**32),
    st.sampled_from(["squash", "crop"]),
)
def test_any_view_of_any_image_is_inside_it_and_keeps_its_share(
    width: int, height: int, crop: float, ratio: float, seed: int, resize: str
) -> None:
    view = draw(Augmentation(crop=crop, ratio=ratio), random.Random(seed), (width, height), sided=False)
    left, top, right, bottom = view.box
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    wide, high = (right - left) / width, (bottom - top) / height
    assert crop - 1e-6 <= wide * high <= 1 + 1e-6
    assert 1 / ratio - 1e-6 <= wide / high <= ratio + 1e-6
    image = Image.new("RGB", (width, height))
    pixels = view.apply(image, Preprocessing(image_size=8, resize=resize))  # type: ignore[arg-type]  # one of both
    assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8


def test_views_reach_all_corners_and_all_sizes() -> None:
    boxes = np.array([view.box for view in views(Augmentation(crop=0.25, ratio=2.0))]) / (80, 60, 80, 60)
    assert boxes[:, :2].min() < 0.02 and boxes[:, 2:].max() > 0.98
    shares = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert shares.min() < 0.3 and shares.max() > 0.95
    assert np.mean(shares) == pytest.approx(0.625, abs=0.03)


def test_the_same_seed_gives_the_same_view_and_pixels() -> None:
    [image] = pictures(1)
    first, again, other = (draw(Augmentation(), random.Random(seed), image.size, sided=False) for seed in (4, 4, 5))
    assert first == again != other
    assert np.array_equal(first.apply(image, PREPROCESSING), again.apply(image, PREPROCESSING))


def test_whether_a_view_is_mirrored_does_not_depend_on_the_size_of_the_image() -> None:
    for seed in range(50):
        small, large = (draw(Augmentation(), random.Random(seed), size, sided=False) for size in ((1, 1), (700, 90)))
        assert small.mirrored == large.mirrored


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(80, 70), (33, 121), (300, 50), (32, 32)])
def test_nothing_changed_gives_the_pixels_of_the_preprocessing(
    resize: str, interpolation: str, size: tuple[int, int]
) -> None:
    [image] = pictures(1, size=size)
    preprocessing = Preprocessing(image_size=32, resize=resize, interpolation=interpolation)  # type: ignore[arg-type]
    view = draw(Augmentation(crop=1, ratio=1, colour=0, flip="off"), random.Random(0), image.size, sided=False)
    assert view == whole(image)
    assert np.array_equal(view.apply(image, preprocessing), preprocessing(image))


def test_augmentation_is_off_when_nothing_changes() -> None:
    assert Augmentation(crop=1, ratio=1, colour=0, flip="off").is_off
    assert not Augmentation(crop=1, ratio=1, colour=0, flip="words").is_off


def test_a_view_shows_its_box() -> None:
    image = Image.new("RGB", (80, 60), "blue")
    image.paste((255, 0, 0), (20, 10, 60, 50))
    inside = View(box=(24, 14, 56, 46)).apply(image, PREPROCESSING)
    assert (inside == (255, 0, 0)).all()
    around = View(box=(0, 0, 40, 60)).apply(image, PREPROCESSING)
    assert tuple(around[16, 4]) == (0, 0, 255) and tuple(around[16, 28]) == (255, 0, 0)


def test_a_square_crop_stretches_no_more_than_was_drawn() -> None:
    """A disc on a wide picture stays round where preprocessing crops a square, whatever the box."""
    image = Image.new("RGB", (160, 40))
    grid = np.hypot(*np.meshgrid(np.arange(160) - 79.5, np.arange(40) - 19.5)) < 15
    image = Image.fromarray(np.repeat(np.where(grid, 255, 0).astype(np.uint8)[..., None], 3, axis=2))
    seen = View(box=(8, 2, 152, 38)).apply(image, Preprocessing(image_size=72, resize="crop"))[..., 0] > 127
    wide, high = (int(seen.any(axis=axis).sum()) for axis in (0, 1))
    assert wide == high == 60


def test_a_mirrored_view_is_the_view_of_the_mirror_image() -> None:
    [image] = pictures(1)
    mirrored = whole(image, mirrored=True).apply(image, PREPROCESSING)
    assert apart(mirrored, PREPROCESSING(ImageOps.mirror(image))) <= 1
    assert mirrored.flags["C_CONTIGUOUS"]


def test_half_of_the_views_are_mirrored_unless_that_would_make_a_caption_wrong() -> None:
    counts = {
        (flip, sided): sum(view.mirrored for view in views(Augmentation(flip=flip), sided=sided))
        for flip in ("off", "words", "unsided")
        for sided in (False, True)
    }
    for case in (("words", True), ("words", False), ("unsided", False)):
        assert counts.pop(case) == pytest.approx(200, abs=40)
    assert set(counts.values()) == {0}


@pytest.mark.parametrize(
    ("change", "enhance"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
def test_light_and_colour_change_as_in_pillow(change: str, enhance: type) -> None:
    [image] = pictures(1, size=(32, 32))
    for factor in (0.7, 1.25):
        pixels = whole(image, **{change: factor}).apply(image, PREPROCESSING)
        assert apart(pixels, np.asarray(enhance(image).enhance(factor))) <= 2


def test_all_changes_at_once_are_those_one_after_the_other() -> None:
    gentle = Image.fromarray((np.asarray(pictures(1, size=(32, 32))[0]) // 2 + 64).astype(np.uint8))  # nothing clips
    pixels = whole(gentle, brightness=0.8, contrast=0.7, saturation=1.3).apply(gentle, PREPROCESSING)
    after = ImageEnhance.Contrast(ImageEnhance.Brightness(gentle).enhance(0.8)).enhance(0.7)
    assert apart(pixels, np.asarray(ImageEnhance.Color(after).enhance(1.3))) <= 3


def test_a_grey_view_has_no_colour_and_the_grey_of_pillow() -> None:
    [image] = pictures(1, size=(32, 32))
    pixels = whole(image, grey=True, saturation=1.4).apply(image, PREPROCESSING)
    assert apart(pixels, np.asarray(image.convert("L").convert("RGB"))) <= 1
    assert sum(view.grey for view in views(Augmentation(grey=0.3))) == pytest.approx(120, abs=30)


def test_colour_stays_within_its_bounds() -> None:
    drawn = views(Augmentation(colour=0.2))
    for name in ("brightness", "contrast", "saturation"):
        values = [getattr(view, name) for view in drawn]
        assert 0.8 <= min(values) < 0.81 and 1.19 < max(values) <= 1.2


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("A dog on the left of a cat .", "A dog on the right of a cat ."),
        ("Left to right", "Right to left"),
        ("TURN LEFT", "TURN RIGHT"),
        ("a left-handed boy, right.", "a right-handed boy, left."),
        ("the top-right corner", "the top-left corner"),
        ("the leftmost of two righthanded men moves rightwards", "the rightmost of two lefthanded men moves leftwards"),
        ("'right'", "'left'"),
    ],
)
def test_left_and_right_change_places_in_a_caption(caption: str, mirrored: str) -> None:
    assert swap_sides(caption) == mirrored
    assert swap_sides(mirrored) == caption
    assert says_side(caption) and says_side(mirrored)


@pytest.mark.parametrize(
    "caption", ["a bright light", "leftovers", "human rights", "cleft rock", "rightful", "", "gauche"]
)
def test_other_words_name_no_side(caption: str) -> None:
    assert swap_sides(caption) == caption
    assert not says_side(caption)


@given(st.lists(st.sampled_from(["left", "Right", "LEFT", "right-hand", "bright", "dog", ",", "\n"])).map(" ".join))
def test_a_caption_swapped_twice_is_itself_and_its_sides_are_all_swapped(caption: str) -> None:
    swapped = swap_sides(caption)
    assert swap_sides(swapped) == caption
    assert says_side(caption) == (swapped != caption)
    sides = [re.findall(r"\b(left|right)\b", text.lower()) for text in (caption, swapped)]
    assert all({a, b} == {"left", "right"} for a, b in zip(*sides, strict=True))


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("crop", [0, -0.1, 1.1, float("nan"), "x", None, True]),
        ("ratio", [0.9, 0, float("inf"), float("nan")]),
        ("colour", [-0.1, 1, "0.2"]),
        ("grey", [-0.1, 1.1]),
        ("flip", ["on", "", None, True]),
    ],
)
def test_a_value_that_cannot_be_is_named(option: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=re.escape(f"{option} is {value!r}: it must be")):
            Augmentation(**{option: value})  # type: ignore[arg-type]  # wrong on purpose
