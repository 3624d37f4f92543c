"""What every answer carries: the id of its request, and headers that keep a browser from doing more than it should.

It also answers for what nothing else caught, in one line; the log has the trace.
"""

from __future__ import annotations

import logging
import re
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from clip_qdrant.service.problems import answer_error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["REQUEST_ID", "EnvelopeMiddleware"]

logger = logging.getLogger(__name__)

REQUEST_ID = "X-Request-ID"
_ID_OF_CALLER = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)  # nothing that could forge a line of a log
_HEADERS = {
    # Answers are data: whatever they hold, a browser that shows one runs and loads nothing. A page brings its own.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class EnvelopeMiddleware:
    """ASGI middleware around all others: request ids in and out, headers of every answer, answers to bugs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = told if _ID_OF_CALLER.fullmatch(told) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        is_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_begun
            if message["type"] == "http.response.start":
                is_begun = True
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            # quoted: a path may hold the end of a line
            logger.exception("request %s failed: %s %r", request_id, scope["method"], scope["path"])
            if is_begun:
                raise
            await answer_error(error, request_id)(scope, receive, send_with_headers)
