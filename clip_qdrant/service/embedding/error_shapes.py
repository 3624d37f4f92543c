"""Errors in the shape that the clients of a protocol read. Status and message are those of every other answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from clip_qdrant.errors import ClipQdrantError
from clip_qdrant.service.problems import RESPONSES, answer_error, status_of
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["ERROR_RESPONSES", "ErrorShape", "shape_errors", "write_under"]

# The body of an answer, of its status, the message and the name of the error.
ErrorShape: TypeAlias = Callable[[HTTPStatus, str, str], dict[str, Any]]

# What the OpenAPI document says of them. What is refused before a route is found is told as a problem all the same.
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "an error in the shape of the protocol, or a problem",
        "content": {**told["content"], "application/json": {"schema": {"type": "object"}}},
    }
    for status, told in RESPONSES.items()
}
_KEPT = ("Retry-After", "WWW-Authenticate")


def write_under(member: str) -> ErrorShape:
    """Bodies that have the message, as this member, and nothing else."""
    return lambda _status, message, _name: {member: message}


def shape_errors(write: ErrorShape, statuses: Mapping[HTTPStatus, HTTPStatus] | None = None) -> type[APIRoute]:
    """The class of routes whose errors have a body that `write` makes. `statuses` are those that clients of the
    protocol expect in place of ours.
    """

    class ShapedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_errors(request: Request) -> Response:
                try:
                    return await handle(request)
                except (ClipQdrantError, RequestValidationError, HTTPException) as error:
                    status, message = _describe(error)
                    kept = answer_error(error, None).headers if isinstance(error, ClipQdrantError) else {}
                    headers = {name: kept[name] for name in _KEPT if name in kept}
                    status = (statuses or {}).get(status, status)
                    return JSONResponse(write(status, message, type(error).__name__), status, headers)

            return handle_errors

    return ShapedRoute


def _describe(error: ClipQdrantError | RequestValidationError | HTTPException) -> tuple[HTTPStatus, str]:
    if isinstance(error, RequestValidationError):
        told = [f"{'.'.join(map(str, one['loc'][1:])) or 'the body'}: {one['msg']}" for one in error.errors()]
        return HTTPStatus.BAD_REQUEST, mask_secrets("; ".join(dict.fromkeys(told)))
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code), mask_secrets(str(error.detail))
    return status_of(error), mask_secrets(str(error))
