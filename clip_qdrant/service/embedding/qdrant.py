"""Qdrant's inference: a server whose `inference.address` points here has its documents and images embedded here.

It sends the key of the service in the body (`inference.token` of its configuration), not in a header. Errors that it
hands on to its own clients are those with status 400, and 429 where they may come again.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse
from starlette.requests import Request

from clip_qdrant.errors import ConfigError
from clip_qdrant.service.embedding.content import EmbeddingRequest
from clip_qdrant.service.embedding.core import embed_inputs
from clip_qdrant.service.embedding.error_shapes import ERROR_RESPONSES, shape_errors, write_under
from clip_qdrant.service.embedding.model_names import check_model
from clip_qdrant.service.embedding.parts import ImagePart, InputParts, TextPart
from clip_qdrant.service.examples import INFERENCE
from clip_qdrant.service.security.access import find_access, read_key

__all__ = ["router"]

router = APIRouter(
    tags=["embeddings"],
    responses=ERROR_RESPONSES,
    route_class=shape_errors(
        write_under("error"),
        {
            HTTPStatus.NOT_FOUND: HTTPStatus.BAD_REQUEST,
            HTTPStatus.UNPROCESSABLE_ENTITY: HTTPStatus.BAD_REQUEST,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE: HTTPStatus.BAD_REQUEST,
            HTTPStatus.BAD_GATEWAY: HTTPStatus.BAD_REQUEST,
            HTTPStatus.SERVICE_UNAVAILABLE: HTTPStatus.TOO_MANY_REQUESTS,
        },
    ),
)


class InferenceInput(EmbeddingRequest):
    """`data` is a text, an image (a data URL, base64 or an http(s) URL), or an object that has `text` or `image`."""

    data: Any
    data_type: Literal["text", "image", "object"]
    model: str
    options: dict[str, Any] | None = None

    def to_parts(self) -> InputParts:
        said = self.data if self.data_type == "object" and isinstance(self.data, dict) else {self.data_type: self.data}
        kinds: dict[str, type[TextPart] | type[ImagePart]] = {"text": TextPart, "image": ImagePart}
        parts = tuple(kinds[name](value) for name, value in said.items() if name in kinds and isinstance(value, str))
        if not parts or len(parts) != len(said):
            raise ConfigError(
                f"an input of the type {self.data_type!r} is a text or an image, or an object with the members text or "
                f"image, both as text; not {str(self.data)[:80]!r}"
            )
        return parts


class InferenceRequest(EmbeddingRequest):
    inputs: list[InferenceInput]
    inference: Literal["update", "search"] = "update"
    token: str | None = None


@router.post("/inference", summary="Embed for a Qdrant server")
async def infer(
    body: Annotated[InferenceRequest, Body(openapi_examples=INFERENCE)],
    request: Request,
    key: Annotated[str | None, Depends(read_key)],
) -> JSONResponse:
    """One vector of length 1 for each input, whether it is stored or searched with."""
    service = find_access(request, body.token or key, "read").service
    for one in body.inputs:
        check_model(one.model, service.options.model_names)
    embedded = await embed_inputs([one.to_parts() for one in body.inputs], service)
    usage = None
    if embedded.tokens is not None and body.inputs:
        asked = {one.model for one in body.inputs}  # all are names of one model
        name = asked.pop() if len(asked) == 1 else service.options.model_names[0]
        usage = {"models": {name: {"tokens": embedded.tokens}}}
    return JSONResponse({"embeddings": embedded.rows.tolist(), "usage": usage})
