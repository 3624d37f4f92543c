"""OpenCV's bilinear resize (cv2.INTER_LINEAR) of 8-bit images: each pixel is made of four, whatever the scale.

It averages nothing when it makes smaller, and so gives other pixels than filters that do. Its arithmetic is that of
OpenCV (modules/imgproc/src/resize.cpp): weights of 11 bits, sums in whole numbers.
"""

from __future__ import annotations

import numpy as np

__all__ = ["resize_bilinear"]

_UNIT = 2048  # a weight of 1


def resize_bilinear(
    pixels: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """The part of an image in `box` (left, top, right, bottom; all of it), scaled to `size` (width, height).

    uint8 (height, width, channels) -> uint8 of the same form.
    """
    height, width = pixels.shape[:2]
    left, top, right, bottom = box or (0, 0, width, height)
    x, next_x, x_weights = _choose_neighbours(left, right, size[0], width)
    y, next_y, y_weights = _choose_neighbours(top, bottom, size[1], height)
    x_weights = x_weights[:, :, None]
    lines = [pixels[row] for row in (y, next_y)]  # whole lines first, which lie together in memory
    sums = [(line[:, x] * x_weights[0] + line[:, next_x] * x_weights[1]) >> 4 for line in lines]  # int32, out's shape
    y_weights = y_weights[:, :, None, None]
    pixels = (((y_weights[0] * sums[0]) >> 16) + ((y_weights[1] * sums[1]) >> 16) + 2) >> 2
    return pixels.astype(np.uint8)


def _choose_neighbours(start: float, end: float, n: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For n outputs: the pixel before each, the one behind it, and the weights of both, int32 (2, n)."""
    at = (start + (np.arange(n) + 0.5) * ((end - start) / n) - 0.5).astype(np.float32)
    before = np.floor(at).astype(np.int64)
    part = at - before.astype(np.float32)
    part[(before < 0) | (before >= length - 1)] = 0
    before = np.clip(before, 0, length - 1)
    weights = np.rint(np.stack([1 - part, part]) * _UNIT).astype(np.int32)
    return before, np.minimum(before + 1, length - 1), weights
