"""The perceptual hash is equal or close for the same picture, and far for another."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from clip_qdrant.images.load import load_image
from clip_qdrant.images.perceptual_hash import perceptual_hash


def scene(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def distance(one: Image.Image, other: Image.Image) -> int:
    return (int(perceptual_hash(one), 16) ^ int(perceptual_hash(other), 16)).bit_count()


def test_a_hash_is_16_hex_digits_and_the_same_every_time() -> None:
    assert perceptual_hash(scene(1)) == perceptual_hash(scene(1))
    assert len(bytes.fromhex(perceptual_hash(scene(1)))) == 8


def test_a_hash_is_the_sign_of_the_low_cosine_coefficients() -> None:
    """Against the definition, term by term."""
    grey = np.asarray(scene(2, (32, 32)).convert("L"), np.float64)
    angle = np.pi * (2 * np.arange(32) + 1) / 64
    low = np.array(
        [[(grey * np.outer(np.cos(u * angle), np.cos(v * angle))).sum() for v in range(8)] for u in range(8)]
    )
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    assert perceptual_hash(scene(2, (32, 32))) == f"{int(bits, 2):016x}"


@pytest.mark.parametrize("seed", range(5))
def test_recoding_and_resizing_move_few_bits(seed: int) -> None:
    file = io.BytesIO()
    scene(seed).resize((120, 90)).save(file, "JPEG", quality=50)
    assert distance(scene(seed), Image.open(file)) <= 6


@pytest.mark.parametrize("seed", range(5))
def test_another_picture_is_far_away(seed: int) -> None:
    assert distance(scene(seed), scene(seed + 100)) >= 16


def test_plain_images_have_a_hash_that_noise_in_the_arithmetic_does_not_decide() -> None:
    hashes = {
        load_image(np.full((size, size, 3), value, np.uint8)).info.phash for size in (8, 32, 50) for value in (1, 200)
    }
    assert hashes == {"8000000000000000"}
