"""Touched: which part of a source a run is to look at."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EVERYTHING", "Touched"]


@dataclass(frozen=True, slots=True)
class Touched:
    """What a run is to look at: all `folders` if that is None; the objects at `removed` are said to be gone.

    Whoever said so may be late: one that is listed is not gone.
    """

    folders: frozenset[str] | None = None
    removed: frozenset[str] = frozenset()


EVERYTHING = Touched()
