"""Resizing as other libraries do it, written out pixel by pixel: what their arithmetic is compared with."""

from __future__ import annotations

import math

import numpy as np


def sample_bilinear(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """cv2.resize(pixels, size) of (height, width, channels) in float64: four neighbours, centres at half pixels."""
    height, width = pixels.shape[:2]

    def weigh(at: float, length: int) -> list[tuple[int, float]]:
        low, part = math.floor(at), at - math.floor(at)
        return [(min(max(low + step, 0), length - 1), weight) for step, weight in ((0, 1 - part), (1, part))]

    result = np.empty((size[1], size[0], pixels.shape[2]))
    for row in range(size[1]):
        for column in range(size[0]):
            result[row, column] = sum(
                a * b * pixels[y, x].astype(np.float64)
                for y, a in weigh((row + 0.5) * height / size[1] - 0.5, height)
                for x, b in weigh((column + 0.5) * width / size[0] - 0.5, width)
            )
    return result
