"""UploadRoute: a route whose JSON may come in a form, with files beside it.

    curl -F image=@cat.jpg -F 'request={"limit": 3}' http://localhost:8080/v1/search

The handler sees the JSON of the part `request` as its body, and the files of the parts `image` by `read_uploads`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

__all__ = ["UploadRoute", "describe_form", "read_uploads"]

_FORM = "multipart/form-data"
_UPLOADS = "clip_qdrant.uploads"  # in the scope of a request
_MOST_FILES = 32
_LONGEST_REQUEST = 16 << 20  # bytes of JSON


class UploadRoute(APIRoute):
    """Takes application/json as other routes do and, if its handler asks for the uploads, multipart/form-data."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if not any(dependency.call is read_uploads for dependency in self.dependant.dependencies):
            return handle

        async def handle_form(request: Request) -> Response:
            media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            return await handle(await _take_apart(request) if media_type == _FORM else request)

        return handle_form


async def read_uploads(request: Request) -> list[bytes]:
    """A dependency: the files that came with a request, in their order."""
    uploads: list[bytes] = request.scope.get(_UPLOADS, [])
    return uploads


def describe_form(model: str) -> dict[str, Any]:
    """For `openapi_extra=`: the form beside the JSON, which the OpenAPI document has under the name of a model."""
    properties = {
        "request": {"$ref": f"#/components/schemas/{model}"},
        "image": {
            "type": "array",
            "maxItems": _MOST_FILES,
            "items": {"type": "string", "format": "binary"},
            "description": "Files of images.",
        },
    }
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    encoding = {"request": {"contentType": "application/json"}, "image": {"contentType": "application/octet-stream"}}
    return {"requestBody": {"content": {_FORM: {"schema": schema, "encoding": encoding}}, "required": True}}


async def _take_apart(request: Request) -> Request:
    """The request that is in a form, as if its JSON had come alone."""
    document, uploads = b"{}", []
    async with request.form(max_files=_MOST_FILES + 1, max_fields=2, max_part_size=_LONGEST_REQUEST) as form:
        for name, value in form.multi_items():
            content = await value.read() if isinstance(value, UploadFile) else value.encode("utf-8", "replace")
            if name == "request":
                document = content
            elif name == "image" and isinstance(value, UploadFile):
                uploads.append(content)
            else:
                what = "is no file: send it with a file name" if name == "image" else "is not there"
                raise _refuse(name, f"the form takes request (JSON) and image (files); {name} {what}")
    if len(uploads) > _MOST_FILES:
        raise _refuse("image", f"a form takes {_MOST_FILES} files at most")
    kept = [(key, value) for key, value in request.headers.raw if key not in (b"content-type", b"content-length")]
    headers = [*kept, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(document))]
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return await request.receive()
        sent = True
        return {"type": "http.request", "body": document, "more_body": False}

    scope = {**request.scope, "headers": Headers(raw=headers).raw, _UPLOADS: uploads}
    return Request(scope, receive)


def _refuse(name: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": "value_error", "loc": ("body", name), "msg": message, "input": None}])
