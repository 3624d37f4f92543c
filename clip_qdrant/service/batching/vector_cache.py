"""VectorCache: the vectors of the texts that were embedded last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

__all__ = ["LONGEST_KEPT", "VectorCache"]

LONGEST_KEPT = 1000  # characters; texts that people search with are shorter, and the memory stays bounded


class VectorCache:
    """Keeps `capacity` vectors, those that were asked for last. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self.hits = 0
        self.misses = 0
        self._capacity = capacity
        self._rows: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """The vectors of those that are known, float32 (dim,), read-only, by text."""
        found: dict[str, np.ndarray] = {}
        with self._lock:
            for text in texts:
                row = self._rows.get(text)
                if row is None:
                    self.misses += 1
                else:
                    self.hits += 1
                    self._rows.move_to_end(text)
                    found[text] = row
        return found

    def keep(self, texts: Iterable[str], rows: np.ndarray) -> None:
        """`rows` are float32 (n, dim), one for each text."""
        with self._lock:
            for text, row in zip(texts, rows, strict=True):
                if len(text) > LONGEST_KEPT:
                    continue
                kept = row.copy()  # a view would hold the whole batch
                kept.setflags(write=False)
                self._rows[text] = kept
                self._rows.move_to_end(text)
            while len(self._rows) > self._capacity:
                self._rows.popitem(last=False)
