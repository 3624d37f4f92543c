"""A moving average of what a run reports."""

from __future__ import annotations

__all__ = ["Average"]


class Average:
    """A moving average that forgets exponentially, without the pull of its start (Adam, arXiv:1412.6980, section 3)."""

    def __init__(self, keep: float = 0.95) -> None:
        self._keep = keep
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        """The average with this value in it."""
        self._sum = self._keep * self._sum + (1 - self._keep) * value
        self._weight = self._keep * self._weight + (1 - self._keep)
        return self._sum / self._weight
