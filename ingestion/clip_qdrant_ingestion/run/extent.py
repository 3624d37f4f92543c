"""Extent: the part of a source that a run looks at."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EVERYTHING", "Extent"]


@dataclass(frozen=True, slots=True)
class Extent:
    """The `folders` that a run looks at, None for all. The objects at `removed` are said to be gone.

    Whoever said so may be late: one that is listed is not gone.
    """

    folders: frozenset[str] | None = None
    removed: frozenset[str] = frozenset()


EVERYTHING = Extent()
