"""EncoderJob: what one caller wants embedded, and the future by which it gets the vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Generic, TypeVar

import numpy as np

from clip_qdrant.service.http.lifetime import Lifetime

__all__ = ["EncoderJob"]

Item = TypeVar("Item")


class EncoderJob(Generic[Item]):
    """`future` gives the vectors of `items`, float32 (n, dim), in their order. Its `cancel` takes the job out.

    The first `taken` items are in a batch, or were in one. `lifetime` is that of the request it is for.
    """

    def __init__(self, items: Sequence[Item], *, dim: int, lifetime: Lifetime | None) -> None:
        self.items = items
        self.future: Future[np.ndarray] = Future()
        self.taken = 0
        self._lifetime = lifetime
        self._rows = np.empty((len(items), dim), np.float32)
        self._missing = len(items)

    @property
    def waiting(self) -> int:
        """How many items are in no batch yet."""
        return len(self.items) - self.taken

    @property
    def is_late(self) -> bool:
        return self._lifetime is not None and not self._lifetime.time_left()

    def put(self, position: int, row: np.ndarray) -> None:
        """The vector of one item; with the last the job is done."""
        self._rows[position] = row
        self._missing -= 1
        if not self._missing:
            with contextlib.suppress(InvalidStateError):  # it was given up meanwhile
                self.future.set_result(self._rows)

    def fail(self, error: BaseException) -> None:
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)
