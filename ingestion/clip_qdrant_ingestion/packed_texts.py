"""Millions of names or uris in little memory: a list of them, a set of them, and a sort.

A Python string takes 50 bytes beside its letters. Here a list takes about as many bytes as its texts have letters, and
a set 16 bytes a text.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["PackedTexts", "TextSet", "sort_texts"]

_BLOCK = 256  # texts that are unpacked at once
_RUN = 50_000  # texts that are sorted at once
_END = b"\xff"  # between two texts; no UTF-8 holds it
_HASH_BYTES = 16


class PackedTexts:
    """Texts in the order they were appended in."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._blocks: list[bytes] = []
        self._last: list[str] = []
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        self._last.append(text)
        if len(self._last) == _BLOCK:
            self._blocks.append(_END.join(map(_encode, self._last)))
            self._last = []

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            yield from map(_decode, block.split(_END))
        yield from self._last

    def __getitem__(self, position: int) -> str:
        block, place = divmod(position, _BLOCK)
        if block == len(self._blocks):
            return self._last[place]
        return _decode(self._blocks[block].split(_END)[place])


class TextSet:
    """Texts of which only is asked whether they are there, known by hashes of 128 bits.

    The hashes are in sorted runs, of which the small are merged into the large.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray[Any, Any]] = []  # each at least twice as long as the next
        self._recent = bytearray()  # hashes that were added and are in no run yet

    def __len__(self) -> int:
        self._merge_recent()
        return sum(map(len, self._runs))

    def __contains__(self, text: str) -> bool:
        self._merge_recent()
        return bool(self._are_in_runs(_hashes([text]))[0])

    def contain(self, texts: Sequence[str]) -> list[bool]:
        """Of each text whether it is there."""
        self._merge_recent()
        return [bool(each) for each in self._are_in_runs(_hashes(texts))] if texts else []

    def add(self, text: str) -> None:
        self._recent += _hash(text)

    def add_all(self, texts: Sequence[str]) -> list[bool]:
        """Adds texts; gives of each whether it is there for the first time, among these too."""
        self._merge_recent()
        return [bool(each) for each in self._add(_hashes(texts))] if texts else []

    def _merge_recent(self) -> None:
        if self._recent:
            self._add(np.frombuffer(bytes(self._recent), dtype=f"V{_HASH_BYTES}").view(f"S{_HASH_BYTES}"))
            self._recent = bytearray()

    def _add(self, hashes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        first = np.zeros(len(hashes), dtype=bool)
        first[np.unique(hashes, return_index=True)[1]] = True
        first &= ~self._are_in_runs(hashes)
        run = np.sort(hashes[first])
        while len(run) and self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
        return first

    def _are_in_runs(self, hashes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found = np.zeros(len(hashes), dtype=bool)
        for run in self._runs:
            found |= run[np.minimum(np.searchsorted(run, hashes), len(run) - 1)] == hashes
        return found


def sort_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts in the order of their code points, by a merge sort whose runs are packed."""
    runs: list[PackedTexts] = []
    run: list[str] = []
    for text in texts:
        run.append(text)
        if len(run) == _RUN:
            runs.append(PackedTexts(sorted(run)))
            run = []
    runs.append(PackedTexts(sorted(run)))
    return heapq.merge(*runs)


def _hashes(texts: Sequence[str]) -> np.ndarray[Any, Any]:
    return np.array([_hash(text) for text in texts], dtype=f"S{_HASH_BYTES}")


def _hash(text: str) -> bytes:
    return hashlib.blake2b(_encode(text), digest_size=_HASH_BYTES).digest()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a file name that is not UTF-8 has lone surrogates


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
