"""Cohere's embeddings, version 2: texts, images, or inputs that have both."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse
from pydantic import Field

from clip_qdrant.errors import ConfigError
from clip_qdrant.service.embedding.content import Content, EmbeddingRequest
from clip_qdrant.service.embedding.core import embed_inputs
from clip_qdrant.service.embedding.error_shapes import ERROR_RESPONSES, shape_errors, write_under
from clip_qdrant.service.embedding.model_names import check_model
from clip_qdrant.service.embedding.parts import ImagePart, InputParts, TextPart
from clip_qdrant.service.embedding.vectors import VectorFormat, check_dimensions, write_vectors
from clip_qdrant.service.examples import COHERE
from clip_qdrant.service.security.access import Access, needs

__all__ = ["router"]

router = APIRouter(tags=["embeddings"], route_class=shape_errors(write_under("message")), responses=ERROR_RESPONSES)


class CohereRequest(EmbeddingRequest):
    """One of `texts`, `images` and `inputs`. `input_type` changes nothing: texts are embedded as those of a search."""

    model: str | None = None
    texts: list[str] | None = None
    images: list[str] | None = Field(default=None, description="data URLs")
    inputs: list[Content] | None = None
    input_type: str | None = None
    embedding_types: list[VectorFormat] = Field(default=["float"], min_length=1)
    output_dimension: int | None = Field(default=None, description="that of the model: its vectors cannot be cut")
    truncate: Literal["END"] | None = Field(default=None, description="long texts are cut at their end")

    def to_inputs(self) -> list[InputParts]:
        given = [name for name in ("texts", "images", "inputs") if getattr(self, name)]
        if len(given) != 1:
            raise ConfigError("give one of texts, images and inputs, with one at least")
        if self.texts:
            return [(TextPart(text),) for text in self.texts]
        if self.images:
            return [(ImagePart(image),) for image in self.images]
        return [one.to_parts() for one in self.inputs or ()]


@router.post("/v2/embed", summary="Embed texts and images: Cohere")
async def embed(
    body: Annotated[CohereRequest, Body(openapi_examples=COHERE)], access: Annotated[Access, Depends(needs("read"))]
) -> JSONResponse:
    """Vectors of length 1, in each of the formats asked for."""
    service = access.service
    check_model(body.model, service.options.model_names)
    check_dimensions("output_dimension", body.output_dimension, service.embedder.dim)
    embedded = await embed_inputs(body.to_inputs(), service)
    units = {"input_tokens": embedded.tokens, "images": len(embedded.sizes)}
    answer: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "response_type": "embeddings_by_type",
        "embeddings": {form: write_vectors(embedded.rows, form) for form in dict.fromkeys(body.embedding_types)},
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {name: number for name, number in units.items() if number is not None},
        },
    }
    if body.texts:
        answer["texts"] = body.texts
    return JSONResponse(answer)
