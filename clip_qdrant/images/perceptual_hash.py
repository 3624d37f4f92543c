"""The perceptual hash of a picture, by which near-duplicates are found."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["perceptual_hash"]


def perceptual_hash(rgb: Image.Image) -> str:
    """64-bit pHash as 16 hex digits; similar pictures differ in few bits.

    The low 8 x 8 DCT-II coefficients of the picture as 32 x 32 grey, each compared with their median: the hash of
    Zauner 2010, bits in the order of the `imagehash` package.
    """
    small = rgb.convert("L").resize((32, 32), Image.Resampling.LANCZOS, reducing_gap=3.0)
    grey = np.asarray(small, dtype=np.float64)
    basis = _dct_basis()
    # Rounded, so that the noise of a plain picture's zeros does not decide: it differs between machines.
    low = np.round(basis @ grey @ basis.T, 3)  # (8, 8)
    bits = low > np.median(low)
    return np.packbits(bits).tobytes().hex()


@functools.lru_cache(maxsize=1)
def _dct_basis() -> np.ndarray[Any, Any]:
    rows, columns = np.arange(8)[:, None], np.arange(32)[None, :]
    return np.cos(np.pi * rows * (2 * columns + 1) / 64)  # (8, 32)
