"""Channel: a bounded queue between two stages of a pipeline, which ends when its producers are done.

Bounded by the number of items: whoever is faster waits. `Budget` bounds what no count can, bytes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Budget", "Channel", "Halted"]

_T = TypeVar("_T")


class Halted(BaseException):
    """The pipeline was halted while a stage waited. No error: nothing that catches those is to catch it."""


class Channel(Generic[_T]):
    """At most `size` items on their way to the next stage. `producers` threads put, and each says `done` once."""

    def __init__(self, size: int, *, producers: int = 1) -> None:
        self.size = size
        self._items: deque[_T] = deque()
        self._producers = producers
        self._halted = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: _T, *, timeout: float | None = None) -> bool:
        """Hands an item on; False if there was no room for `timeout` seconds. Raises Halted."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self.size or self._halted, timeout)
            if self._halted:
                raise Halted
            if len(self._items) >= self.size:
                return False
            self._items.append(item)
            self._changed.notify_all()
        return True

    def take(self, number: int, *, linger: float = 0.0) -> list[_T]:
        """The next `number` items; fewer at the end, or if the others do not come within `linger` seconds of the first.

        An empty list is the end. Raises Halted.
        """
        taken: list[_T] = []
        with self._changed:
            deadline = None
            while len(taken) < number:
                if self._halted:
                    raise Halted
                if self._items:
                    taken.append(self._items.popleft())
                    self._changed.notify_all()
                    deadline = deadline or time.monotonic() + linger
                elif not self._producers or not self._changed.wait(
                    None if deadline is None else max(0.0, deadline - time.monotonic())
                ):
                    break
        return taken

    def __iter__(self) -> Iterator[_T]:
        while items := self.take(1):
            yield items.pop()  # and what is done with is not held until the next comes

    def done(self) -> None:
        """One producer will put no more."""
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def halt(self) -> None:
        """Whoever waits here, or comes later, gets Halted."""
        with self._changed:
            self._halted = True
            self._changed.notify_all()


class Budget:
    """So many bytes may be in use at once; one use that is larger than that has them all to itself."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._halted = False
        self._waiting: deque[object] = deque()  # first come, first served: a large use is not passed by small ones
        self._changed = threading.Condition()

    def acquire(self, amount: int) -> int:
        """Waits until `amount` can be had; gives what is to be released, never more than the size. Raises Halted."""
        amount = min(max(amount, 0), self._size)
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(
                    lambda: self._halted or (self._waiting[0] is turn and self._used + amount <= self._size)
                )
                if self._halted:
                    raise Halted
                self._used += amount
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()
        return amount

    def release(self, amount: int) -> None:
        with self._changed:
            self._used -= amount
            self._changed.notify_all()

    def correct(self, held: int, amount: int) -> int:
        """Holds `amount` in place of what is held, at once, though it may be too much for a while; gives the amount."""
        with self._changed:
            self._used += amount - held
            self._changed.notify_all()
        return amount

    def halt(self) -> None:
        """Whoever waits here, or comes later, gets Halted: what is in use may never be released."""
        with self._changed:
            self._halted = True
            self._changed.notify_all()

    @contextlib.contextmanager
    def using(self, amount: int) -> Iterator[None]:
        """The amount, while the context lasts."""
        amount = self.acquire(amount)
        try:
            yield
        finally:
            self.release(amount)
