"""A file that is made of pieces of other bytes, without a copy of them."""

from __future__ import annotations

import bisect
import io
import itertools
from collections.abc import Iterable
from typing import Any

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
        number = bisect.bisect_right(self._starts, self._at) - 1
        if number >= len(self._parts):
            return b""
        start = self._at - self._starts[number]
        self._at = self._starts[-1]
        return b"".join([self._parts[number][start:], *self._parts[number + 1 :]])

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        number = bisect.bisect_right(self._starts, self._at) - 1
        while done < len(view) and number < len(self._parts):
            start = self._at - self._starts[number]
            piece = self._parts[number][start : start + len(view) - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._at += len(piece)
            number += 1
        return done
