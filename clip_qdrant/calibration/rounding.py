"""A relevance of fewer digits, never above itself: as `min_relevance` it finds the image that has it."""

from __future__ import annotations

import math

__all__ = ["round_down", "show_relevance"]

_LAST_BITS = 1e-6  # 0.57 * 1000 is a little less than 570


def show_relevance(relevance: float) -> str:
    """For people: of three digits."""
    return f"{round_down(relevance, 3):.3f}"


def round_down(relevance: float, digits: int) -> float:
    """A relevance of so many digits after the point."""
    scale = float(10**digits)
    return math.floor(relevance * scale + _LAST_BITS) / scale
