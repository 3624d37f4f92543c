"""A file that is made of pieces of other bytes, without a copy of them."""

from __future__ import annotations

import bisect
import io
import itertools
from collections.abc import Iterable

__all__ = ["PartsFile"]


class PartsFile(io.RawIOBase):
    """Reads like one file in which the parts stand one after the other."""

    def __init__(self, parts: Iterable[bytes | memoryview]) -> None:
        self._parts = [memoryview(part) for part in parts if len(part)]
        self._starts = [0, *itertools.accumulate(map(len, self._parts))]  # the last is the size of the whole
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise OSError("a place before the begin of the file")
        self._at = base + offset
        return self._at

    def readall(self) -> bytes:
        return self.read(max(0, self._starts[-1] - self._at))

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            return self.readall()
        pieces = []
        number = bisect.bisect_right(self._starts, self._at) - 1
        while size > 0 and number < len(self._parts):
            start = self._at - self._starts[number]
            piece = self._parts[number][start : start + size]
            pieces.append(piece)
            size -= len(piece)
            self._at += len(piece)
            number += 1
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
