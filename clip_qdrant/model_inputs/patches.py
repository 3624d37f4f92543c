"""Images of any shape as one array of a fixed shape: a row of patches, and how many rows and columns they make.

SigLIP 2's NaFlex (Tschannen et al. 2025) scales an image to as many whole patches as the network takes, and so hardly
changes its shape. The array is uint8 (1 + patches, 3 * side * side): its first row has the number of rows and that of
columns, two bytes each, and the patches follow row by row, channels last, padded with zeros.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["choose_grid", "pack_patches"]

_FINEST = 1e-5  # transformers' search ends there
_MOST_ENLARGED = 100.0


def choose_grid(width: int, height: int, side: int, most: int) -> tuple[int, int]:
    """Columns and rows of patches that an image is scaled to: as transformers' Siglip2ImageProcessor searches them."""

    def count(scale: float, length: int) -> int:
        return max(1, math.ceil(length * scale / side))

    low, high = _FINEST / 10, _MOST_ENLARGED
    while high - low >= _FINEST:
        scale = (low + high) / 2
        if count(scale, width) * count(scale, height) <= most:
            low = scale
        else:
            high = scale
    return count(low, width), count(low, height)


def pack_patches(pixels: np.ndarray, side: int, most: int) -> np.ndarray:
    """uint8 (rows * side, columns * side, 3) -> uint8 (1 + most, 3 * side * side)."""
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    packed = np.zeros((1 + most, 3 * side * side), dtype=np.uint8)
    packed[0, :4] = (rows % 256, rows // 256, columns % 256, columns // 256)
    patches = pixels.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    packed[1 : 1 + rows * columns] = patches.reshape(rows * columns, -1)
    return packed
