"""Bytes that come in pieces, put together.

In memory of its own: a list of small pieces, in each of 32 threads, is memory that the C library keeps long after it is
free (`benchmarks/ingest_memory.py`).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

__all__ = ["Pieces", "join_pieces"]

_FIRST = 1 << 20  # bytes; doubled as they are needed


class Pieces:
    """What has come so far. `close` gives its memory back to the system."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _FIRST)
        self._size = 0

    def append(self, piece: bytes) -> None:
        if self._size + len(piece) > len(self._memory):
            larger = mmap.mmap(-1, max(2 * len(self._memory), self._size + len(piece)))
            with memoryview(self._memory) as view:
                larger[: self._size] = view[: self._size]
            self._memory.close()
            self._memory = larger
        self._memory[self._size : self._size + len(piece)] = piece
        self._size += len(piece)

    def take(self) -> bytes:
        return self._memory[: self._size]

    def close(self) -> None:
        self._memory.close()


def join_pieces(pieces: Iterable[bytes]) -> bytes:
    """All of them as one."""
    joined = Pieces()
    try:
        for piece in pieces:
            joined.append(piece)
        return joined.take()
    finally:
        joined.close()
