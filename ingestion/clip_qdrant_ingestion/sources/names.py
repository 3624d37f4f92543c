"""Names of a folder with millions of entries, in little memory.

A Python string takes 50 bytes beside its letters. Here names are packed, about as many bytes as they have letters,
or only known by their hash, 8 bytes each. A name is one part of a path, so it holds no "/".
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

import numpy as np

__all__ = ["NameSet", "PackedNames", "sorted_names"]

_BLOCK = 1000  # names that are unpacked at once
_RUN = 50_000  # names that are sorted at once


class PackedNames:
    """Names in the order they were appended in."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._blocks: list[bytes] = []
        self._last: list[str] = []
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        self._last.append(name)
        if len(self._last) == _BLOCK:
            # surrogatepass: a file name that is not UTF-8 comes as a string with lone surrogates
            self._blocks.append("/".join(self._last).encode("utf-8", "surrogatepass"))
            self._last = []

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            yield from block.decode("utf-8", "surrogatepass").split("/")
        yield from self._last


def sorted_names(names: Iterable[str]) -> Iterator[str]:
    """The names in the order of their code points, by a merge sort whose runs are packed."""
    runs: list[PackedNames] = []
    run: list[str] = []
    for name in names:
        run.append(name)
        if len(run) == _RUN:
            runs.append(PackedNames(sorted(run)))
            run = []
    runs.append(PackedNames(sorted(run)))
    return heapq.merge(*runs)


class NameSet:
    """Names of which only is asked whether they are there.

    It says yes for one that is not there once in 10^13 questions, with a million names.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted = True

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, name: str) -> None:
        self._hashes.append(hash(name))
        self._sorted = False

    def __contains__(self, name: str) -> bool:
        if not self._sorted:
            np.frombuffer(self._hashes, dtype=np.int64).sort()
            self._sorted = True
        wanted = hash(name)
        at = bisect_left(self._hashes, wanted)
        return at < len(self._hashes) and self._hashes[at] == wanted
