"""BodyLimitMiddleware: no request may be larger than what the service is ready to hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import HTTPException
from starlette.datastructures import Headers

from clip_qdrant.errors import RequestTooLarge
from clip_qdrant.service.problems import answer_error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimitMiddleware"]


class BodyLimitMiddleware:
    """ASGI middleware: refuses a body by the length that it announces, and one that announces none as it comes."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            refusal = answer_error(self._refuse(f"{announced} bytes"), scope["state"]["request_id"])
            await refusal(scope, receive, send)
            return
        size = 0

        async def receive_within_limit() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                # What reads a body lets errors of this kind alone pass as they are.
                raise HTTPException(413) from self._refuse("more bytes")
            return message

        await self._app(scope, receive_within_limit, send)

    def _refuse(self, size: str) -> RequestTooLarge:
        return RequestTooLarge(f"the request has {size}, and {self._max_bytes} are the most here; send it in parts")
