"""Errors as answers: a status for each kind, mapped once, and the message as the library says it (RFC 9457).

An answer shows no traces and no secrets of URLs. `type` is `urn:clip-qdrant:` and the name of the error in errors.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from clip_qdrant import errors
from clip_qdrant.url_secrets import mask_secrets

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

__all__ = ["RESPONSES", "STATUSES", "ProblemDetails", "add_problem_handlers", "answer_error", "status_of"]

MEDIA_TYPE = "application/problem+json"
_PREFIX = "urn:clip-qdrant:"

# Where pydantic speaks of itself.
_MESSAGES = {
    "extra_forbidden": "there is no such member",
    "model_attributes_type": "it must be an object of JSON, sent as application/json",
    "missing": "it is missing",
}

# The first class that fits decides.
STATUSES: tuple[tuple[type[errors.ClipQdrantError], HTTPStatus], ...] = (
    (errors.Unauthorized, HTTPStatus.UNAUTHORIZED),
    (errors.Forbidden, HTTPStatus.FORBIDDEN),
    (errors.NotServed, HTTPStatus.NOT_FOUND),
    (errors.RequestTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.IngestRunning, HTTPStatus.CONFLICT),
    (errors.Overloaded, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.DeadlineExceeded, HTTPStatus.GATEWAY_TIMEOUT),
    (errors.ConfigError, HTTPStatus.BAD_REQUEST),
    (errors.FilterError, HTTPStatus.BAD_REQUEST),
    (errors.QueryError, HTTPStatus.BAD_REQUEST),
    (errors.MetadataError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.ImageTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (errors.ImageError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.FingerprintMismatch, HTTPStatus.CONFLICT),
    (errors.SourceError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (errors.CollectionNotFound, HTTPStatus.NOT_FOUND),
    (errors.CollectionExists, HTTPStatus.CONFLICT),
    (errors.PointNotFound, HTTPStatus.NOT_FOUND),
    (errors.InvalidRequest, HTTPStatus.BAD_REQUEST),
    (errors.UnsupportedByEdge, HTTPStatus.NOT_IMPLEMENTED),
    (errors.MissingExtra, HTTPStatus.NOT_IMPLEMENTED),
    (errors.StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.StoreLocked, HTTPStatus.SERVICE_UNAVAILABLE),
    (errors.StoreFull, HTTPStatus.INSUFFICIENT_STORAGE),
    (errors.DiskFull, HTTPStatus.INSUFFICIENT_STORAGE),
    (errors.ClipQdrantError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


class ProblemDetails(BaseModel):
    """Why a request was not answered (RFC 9457)."""

    type: str = Field(
        description="urn:clip-qdrant: and the kind of the error", examples=["urn:clip-qdrant:FilterError"]
    )
    title: str = Field(examples=["Bad Request"])
    status: int = Field(examples=[400])
    detail: str = Field(description="what failed, with which value, and what to do next")
    request_id: str | None = Field(default=None, description="as in X-Request-ID")
    column: int | None = Field(default=None, description="the place, from 1, in the text of a filter")
    reason: str | None = Field(default=None, description="a short, stable word for what is wrong with an image")
    errors: list[dict[str, Any]] | None = Field(
        default=None, description="what is wrong with the request, part by part"
    )


# What the document of the interface says of every route.
_REFERENCE = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
RESPONSES: Mapping[int | str, dict[str, Any]] = {
    status: {"description": "a problem", "content": {MEDIA_TYPE: _REFERENCE}} for status in ("4XX", "5XX")
}


def status_of(error: Exception) -> HTTPStatus:
    """The status of an answer that is this error."""
    if isinstance(error, errors.SourceError) and error.transient:
        return HTTPStatus.BAD_GATEWAY
    return next((status for kind, status in STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def answer_error(error: Exception, request_id: str | None) -> JSONResponse:
    """The answer that is this error. What is none of this package's says nothing of itself: it may tell anything."""
    status = status_of(error)
    ours = isinstance(error, errors.ClipQdrantError)
    details = ProblemDetails(
        type=_PREFIX + _name_kind(error) if ours else "about:blank",
        title=status.phrase,
        status=status,
        detail=mask_secrets(str(error)) if ours else "something went wrong here; the log of the service tells what",
        request_id=request_id,
        column=getattr(error, "column", None) if ours else None,
        reason=error.reason if isinstance(error, errors.ImageError) else None,
    )
    headers = {}
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(max(1, math.ceil(getattr(error, "retry_after", 1.0))))
    return _answer(details, headers)


def _name_kind(error: Exception) -> str:
    """The error of errors.py that this one is, or is a kind of."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def add_problem_handlers(app: FastAPI) -> None:
    """Makes the application answer errors of this package, of validation and of the framework as problems."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        return answer_error(error, _request_id(request))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = [
            {"loc": list(one["loc"]), "msg": _tell_mistake(one["type"], one["msg"]), "type": one["type"]}
            for one in error.errors()
        ]
        detail = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return _answer(
            ProblemDetails(
                type=_PREFIX + "InvalidRequest",
                title=status.phrase,
                status=status,
                detail=mask_secrets(detail),
                request_id=_request_id(request),
                errors=found,
            )
        )

    async def framework(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if isinstance(error.__cause__, errors.ClipQdrantError):
            return answer_error(error.__cause__, _request_id(request))
        status = HTTPStatus(error.status_code)
        details = ProblemDetails(
            type="about:blank",
            title=status.phrase,
            status=status,
            detail=mask_secrets(str(error.detail)),
            request_id=_request_id(request),
        )
        headers = dict(error.headers or {})
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_find_methods(request)) or headers.get("Allow", "")
        return _answer(details, headers)

    app.add_exception_handler(errors.ClipQdrantError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, framework)


def _tell_mistake(kind: str, message: str) -> str:
    return _MESSAGES.get(kind) or message.removeprefix("Value error, ")


def _request_id(request: Request) -> str | None:
    found: str | None = request.scope.get("state", {}).get("request_id")
    return found


def _find_methods(request: Request) -> list[str]:
    """What may be done with a path. The framework names the methods of the first of its routes alone."""
    paths: Mapping[str, Mapping[str, Any]] = request.app.openapi()["paths"]
    found = paths.get(request.url.path)  # which no pattern stands for then
    if found is None:
        found = next((methods for path, methods in paths.items() if compile_path(path)[0].match(request.url.path)), {})
    return sorted(method.upper() for method in found)


class _ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        # What was wrong may be text that is no Unicode, which is told of all the same.
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def _answer(details: ProblemDetails, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return _ProblemResponse(details.model_dump(exclude_none=True), status_code=details.status, headers=headers)
