"""Which names were there already, at 16 bytes a name: a listing of millions must not name an object twice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Seen"]


class Seen:
    """The names seen so far, as hashes of 128 bits in sorted runs, of which the small are merged into the large."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray[Any, Any]] = []  # each at least twice as long as the next

    def new(self, names: Sequence[str]) -> list[bool]:
        """For each name whether it is there for the first time, among these too. Takes note of all of them."""
        if not names:
            return []
        hashes = np.array([_hash(name) for name in names], dtype="S16")
        first = np.zeros(len(names), dtype=bool)
        fresh, places = np.unique(hashes, return_index=True)
        first[places] = True
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            first &= run[at] != hashes
        if first.any():
            self._add(fresh if first[places].all() else np.sort(hashes[first]))
        return [bool(each) for each in first]

    def _add(self, run: np.ndarray[Any, Any]) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort(kind="stable")
        self._runs.append(run)


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
