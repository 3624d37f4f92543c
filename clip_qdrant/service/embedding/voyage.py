"""Voyage's multimodal embeddings: inputs of texts and images."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse
from pydantic import Field

from clip_qdrant.service.embedding.content import Content, EmbeddingRequest
from clip_qdrant.service.embedding.core import embed_inputs
from clip_qdrant.service.embedding.error_shapes import ERROR_RESPONSES, shape_errors, write_under
from clip_qdrant.service.embedding.model_names import check_model
from clip_qdrant.service.embedding.vectors import check_dimensions, write_data
from clip_qdrant.service.examples import VOYAGE
from clip_qdrant.service.security.access import Access, needs

__all__ = ["router"]

router = APIRouter(tags=["embeddings"], route_class=shape_errors(write_under("detail")), responses=ERROR_RESPONSES)


class VoyageRequest(EmbeddingRequest):
    """`input_type` changes nothing: texts are embedded as those of a search. Long ones are cut."""

    model: str | None = None
    inputs: Annotated[list[Content], Field(min_length=1)]
    input_type: str | None = None
    truncation: Literal[True] | None = None
    output_encoding: Literal["base64"] | None = None
    encoding_format: Literal["base64"] | None = None
    output_dimension: int | None = Field(default=None, description="that of the model: its vectors cannot be cut")


@router.post("/v1/multimodalembeddings", summary="Embed texts and images: Voyage")
async def embed(
    body: Annotated[VoyageRequest, Body(openapi_examples=VOYAGE)], access: Annotated[Access, Depends(needs("read"))]
) -> JSONResponse:
    """One vector of length 1 for each input."""
    service = access.service
    check_model(body.model, service.options.model_names)
    check_dimensions("output_dimension", body.output_dimension, service.embedder.dim)
    embedded = await embed_inputs([one.to_parts() for one in body.inputs], service)
    form: Literal["float", "base64"] = body.output_encoding or body.encoding_format or "float"
    usage = {"text_tokens": embedded.tokens, "image_pixels": embedded.pixels, "total_tokens": embedded.tokens}
    return JSONResponse(
        {
            "object": "list",
            "data": write_data(embedded.rows, form),
            "model": service.options.model_names[0],
            "usage": usage,
        }
    )
