"""ObserveMiddleware: counts and times requests, and logs a line for each."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from clip_qdrant.service.metrics import ServiceMetrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ObserveMiddleware"]

logger = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GONE = 499  # nobody waited for the answer (as nginx has it)


class ObserveMiddleware:
    """ASGI middleware around all others. What a request asks for is in no line: a query may hold secrets."""

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = _GONE, time.perf_counter()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.note_start()
        try:
            await self._app(scope, receive, note_status)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.note_end(route, method, status, seconds)
            state = scope.get("state", {})
            logger.info(
                "%s %s %d %.1f ms, request %s by %s",
                *(method, route, status, 1000 * seconds, state.get("request_id"), state.get("caller", "anybody")),
            )
