"""Calls that block, in a bounded number of threads: what comes beyond what may wait is refused at once."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import ParamSpec, TypeVar

from clip_qdrant.errors import Overloaded

__all__ = ["ThreadPool", "run_blocking", "use_threads"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ThreadPool:
    """`threads` calls run at once, `waiting` more may wait; beyond, `run` raises Overloaded."""

    def __init__(self, threads: int, waiting: int, *, retry_after: float = 1.0) -> None:
        self._threads = threads
        self._limit = threads + waiting
        self._retry_after = retry_after
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="clip-qdrant-service")
        self._lock = threading.Lock()
        self._unfinished = 0

    @property
    def running(self) -> int:
        return min(self._unfinished, self._threads)

    @property
    def waiting(self) -> int:
        return max(0, self._unfinished - self._threads)

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What the function gives, called in a thread with the context variables of the caller.

        A caller that is cancelled takes the call out of the queue; one that runs already goes on.
        """
        with self._lock:
            if self._unfinished >= self._limit:
                raise Overloaded(
                    f"{self._unfinished} calls are running or waiting, which is all that may: "
                    f"ask again in {self._retry_after:g} s",
                    retry_after=self._retry_after,
                )
            self._unfinished += 1
        call: Future[_T] = self._pool.submit(copy_context().run, functools.partial(function, *args, **kwargs))
        call.add_done_callback(self._note_end)
        return await asyncio.wrap_future(call)

    def close(self) -> None:
        """Waits for the calls that run; those that wait are cancelled."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _note_end(self, _: Future[_T]) -> None:
        with self._lock:
            self._unfinished -= 1


_POOL: ContextVar[ThreadPool] = ContextVar("thread pool")


def use_threads(pool: ThreadPool) -> None:
    """Sets where `run_blocking` runs what is called from here on in this context."""
    _POOL.set(pool)


async def run_blocking(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What the function gives, called in a thread of the service that handles this request. Raises Overloaded."""
    return await _POOL.get().run(function, *args, **kwargs)
