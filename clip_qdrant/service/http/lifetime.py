"""How long a request lives: until its deadline, or until nobody waits for the answer any more.

Whichever comes first cancels the handler. What it had running in a thread goes on to its end, which nothing can change;
what still waits for a thread, or for the encoder, is taken out of the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from clip_qdrant.errors import DeadlineExceeded
from clip_qdrant.service.problems import answer_error
from clip_qdrant.service.threads import ThreadPool, use_threads

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Lifetime", "LifetimeMiddleware", "current_lifetime"]


class Lifetime:
    """Of one request. Handlers ask `current_lifetime()`, also in the threads of `run_blocking`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds
        self.ended = False

    def time_left(self) -> float:
        """In seconds; 0 where none are left or nobody waits."""
        return 0.0 if self.ended else max(0.0, self._deadline - time.monotonic())


_CURRENT: ContextVar[Lifetime | None] = ContextVar("lifetime", default=None)


def current_lifetime() -> Lifetime | None:
    """That of the request that is handled here; None outside of one."""
    return _CURRENT.get()


class LifetimeMiddleware:
    """`seconds` until an answer has to begin; one that has begun, as a stream of events, may go on.

    `pool` is where `run_blocking` runs what the handlers below give it.
    """

    def __init__(self, app: ASGIApp, *, seconds: float, pool: ThreadPool) -> None:
        self._app = app
        self._seconds = seconds
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        lifetime = Lifetime(self._seconds)
        _CURRENT.set(lifetime)
        use_threads(self._pool)
        handler = asyncio.ensure_future(self._app(scope, exchange.receive, exchange.send))
        exchange.start(handler)
        expiry = asyncio.get_running_loop().call_later(self._seconds, exchange.expire)
        try:
            await handler
        except asyncio.CancelledError:
            if exchange.is_expired:
                late = DeadlineExceeded(f"the answer took longer than {self._seconds:g} s, which is the limit here")
                await answer_error(late, scope.get("state", {}).get("request_id"))(scope, receive, send)
            elif not exchange.is_abandoned:
                raise
        finally:
            lifetime.ended = True
            expiry.cancel()
            await exchange.close()


class _Exchange:
    """A request and its answer, as seen from between the server and the application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._end = asyncio.Event()
        self._handler: asyncio.Future[None] | None = None
        self._watch: asyncio.Future[None] | None = None
        # Without a body there is nothing to wait for: the connection is watched from the start.
        self._is_empty = not any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
            for name, value in scope["headers"]
        )
        self._is_begun = self._is_answered = False
        self.is_expired = self.is_abandoned = False

    def start(self, handler: asyncio.Future[None]) -> None:
        self._handler = handler
        if self._is_empty:
            self._watch = asyncio.ensure_future(self._watch_connection())

    async def receive(self) -> Message:
        if self._is_empty:
            self._is_empty = False
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._watch is not None:  # after the body only the end of the connection can come
            await self._end.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if not message.get("more_body", False):
            self._watch = asyncio.ensure_future(self._watch_connection())
        return message

    async def send(self, message: Message) -> None:
        self._is_begun = True
        self._is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)

    def expire(self) -> None:
        if not self._is_begun and self._handler is not None:
            self.is_expired = True
            self._handler.cancel()

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch

    async def _watch_connection(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._end.set()
        if not self._is_answered and self._handler is not None:  # the server also tells so after a whole answer
            self.is_abandoned = True
            self._handler.cancel()
