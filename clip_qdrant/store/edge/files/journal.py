"""Notes of what is written to a shard while a copy of it is worked on, so that the copy can be brought up to date."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from qdrant_edge import EdgeShard, UpdateOperation

from clip_qdrant.errors import StoreError

__all__ = ["Journal", "RecordingShard"]

# A point of 384 numbers with its payload takes some 4 KB here.
_MOST_POINTS = 200_000


class Journal:
    """The changes since the copy was made, in their order; as the engine took them, so that they do the same again."""

    def __init__(self) -> None:
        self._changes: deque[UpdateOperation] = deque()
        self._points = 0
        self._is_full = False

    def add(self, change: UpdateOperation) -> None:
        """Takes note of a change that was made."""
        if not self._is_full:
            self._changes.append(change)

    def count(self, points: int) -> None:
        """Takes note of how many points were changed. More than memory should hold are let go of: `apply` says so."""
        self._points += points
        if self._points > _MOST_POINTS:
            self._is_full = True
            self._changes.clear()

    def __len__(self) -> int:
        return len(self._changes)

    def apply(self, update: Callable[[UpdateOperation], None]) -> None:
        """Makes the changes there are now once more, and forgets them. Raises StoreError if they were too many."""
        if self._is_full:
            raise StoreError(
                f"more than {_MOST_POINTS:,} points were written meanwhile; optimize when less is written; "
                "all is as it was"
            )
        for _ in range(len(self._changes)):
            update(self._changes[0])
            self._changes.popleft()


class RecordingShard:
    """A shard that notes its changes in a journal, and is like any other for the rest."""

    def __init__(self, shard: EdgeShard, journal: Journal) -> None:
        self._shard, self._journal = shard, journal

    def update(self, operation: UpdateOperation) -> None:
        self._shard.update(operation)
        self._journal.add(operation)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shard, name)
