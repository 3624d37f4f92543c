"""Calls that block run in a bounded number of threads, and a bounded number waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from clip_qdrant.errors import Overloaded
from clip_qdrant.service.threads import ThreadPool


def test_what_comes_beyond_the_queue_is_refused_and_a_cancelled_call_leaves_it() -> None:
    gate, ran = threading.Event(), []
    pool = ThreadPool(1, 1, retry_after=7)

    def block(name: str) -> str:
        gate.wait(10)
        ran.append(name)
        return name

    async def fill() -> None:
        first, second = (asyncio.ensure_future(pool.run(block, name)) for name in ("first", "second"))
        while (pool.running, pool.waiting) != (1, 1):
            await asyncio.sleep(0.001)
        with pytest.raises(Overloaded, match="ask again in 7 s") as refused:
            await pool.run(block, "third")
        assert refused.value.retry_after == 7
        second.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await second
        assert (pool.running, pool.waiting) == (1, 0)
        fourth = asyncio.ensure_future(pool.run(block, "fourth"))
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(first, fourth) == ["first", "fourth"]

    asyncio.run(fill())
    pool.close()

    assert ran == ["first", "fourth"]
    assert (pool.running, pool.waiting) == (0, 0)


def test_what_a_call_raises_reaches_its_caller() -> None:
    pool = ThreadPool(1, 0)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(pool.run(divmod, 1, 0))

    pool.close()
    assert pool.running == 0
