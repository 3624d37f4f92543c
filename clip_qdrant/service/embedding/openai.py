"""OpenAI's embeddings, with the images of infinity, vLLM and Jina, who share its path.

infinity: {"input": [url or data URL], "modality": "image"}; vLLM: {"messages": [...]}; Jina: {"input": [{"text": ...},
{"image": ...}]}. An input that is the data URL of an image is one in any case.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse
from pydantic import Field

from clip_qdrant.errors import ConfigError
from clip_qdrant.service.embedding.content import Content, ContentPart, EmbeddingRequest
from clip_qdrant.service.embedding.core import embed_inputs
from clip_qdrant.service.embedding.error_shapes import ERROR_RESPONSES, shape_errors
from clip_qdrant.service.embedding.model_names import check_model
from clip_qdrant.service.embedding.parts import ImagePart, InputParts, TextPart, as_image_or_text
from clip_qdrant.service.embedding.vectors import VectorFormat, check_dimensions, write_data
from clip_qdrant.service.examples import OPENAI
from clip_qdrant.service.security.access import Access, needs

__all__ = ["router"]

_KINDS = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
}


def _write_error(status: HTTPStatus, message: str, name: str) -> dict[str, Any]:
    kind = _KINDS.get(status, "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error")
    code = "model_not_found" if name == "NotServed" else name
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


router = APIRouter(tags=["embeddings"], route_class=shape_errors(_write_error), responses=ERROR_RESPONSES)

_Access = Annotated[Access, Depends(needs("read"))]


class JinaInput(EmbeddingRequest):
    """A text or an image: base64, a data URL, or an http(s) URL."""

    text: str | None = None
    image: str | None = None

    def to_parts(self) -> InputParts:
        texts = () if self.text is None else (TextPart(self.text),)
        images = () if self.image is None else (ImagePart(self.image),)
        return (*texts, *images)


class ChatMessage(EmbeddingRequest):
    role: str = "user"
    content: str | list[ContentPart]


class OpenAiRequest(EmbeddingRequest):
    """`input` or `messages`; all messages together are one input."""

    model: str | None = None
    input: str | JinaInput | list[str | JinaInput] | list[int] | list[list[int]] | None = Field(
        default=None, description="texts, images, or objects that have one of both; token ids are refused"
    )
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    modality: Literal["text", "image"] = Field(default="text", description="what the texts of input are (infinity)")
    encoding_format: Literal["float", "base64"] | None = None
    embedding_type: VectorFormat | list[VectorFormat] | None = Field(
        default=None, description="how the vectors are written (Jina); one of these"
    )
    dimensions: int | None = Field(default=None, description="those of the model: its vectors cannot be cut")
    late_chunking: bool = False
    return_multivector: bool = False

    def to_inputs(self) -> list[InputParts]:
        """Raises ConfigError for what makes no vectors here."""
        if (self.input is None) == (self.messages is None):
            raise ConfigError("give input, or messages: one of both")
        for name in ("late_chunking", "return_multivector"):
            if getattr(self, name):
                raise ConfigError(f"{name} is not possible here: the model makes one vector of an input; leave it out")
        if self.messages is not None:
            parts: list[TextPart | ImagePart] = []
            for message in self.messages:
                content = message.content
                parts += [TextPart(content)] if isinstance(content, str) else Content(content=content).to_parts()
            return [tuple(parts)]
        given = self.input if isinstance(self.input, list) else [self.input]
        if not given:
            raise ConfigError("input is empty: give one text or image at least")
        return [self._to_parts(one) for one in given]

    def to_format(self) -> VectorFormat:
        if isinstance(self.embedding_type, list):
            if len(self.embedding_type) != 1:
                raise ConfigError("embedding_type has several formats; one is possible in an answer")
            return self.embedding_type[0]
        return self.embedding_type or self.encoding_format or "float"

    def _to_parts(self, one: Any) -> InputParts:
        if isinstance(one, JinaInput):
            return one.to_parts()
        if not isinstance(one, str):
            raise ConfigError(
                "input has token ids, which are those of another tokenizer: send texts (LangChain's "
                "OpenAIEmbeddings does with check_embedding_ctx_length=False)"
            )
        return (ImagePart(one) if self.modality == "image" else as_image_or_text(one),)


@router.post("/v1/embeddings", summary="Embed texts and images: OpenAI, infinity, vLLM, Jina")
@router.post("/embeddings", include_in_schema=False)
async def embed(body: Annotated[OpenAiRequest, Body(openapi_examples=OPENAI)], access: _Access) -> JSONResponse:
    """One vector of length 1 for each input, texts and images in one space."""
    service = access.service
    check_model(body.model, service.options.model_names)
    check_dimensions("dimensions", body.dimensions, service.embedder.dim)
    form = body.to_format()
    embedded = await embed_inputs(body.to_inputs(), service)
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return JSONResponse(
        {
            "object": "list",
            "data": write_data(embedded.rows, form),
            "model": service.options.model_names[0],
            "usage": None if embedded.tokens is None else usage,
        }
    )


@router.get("/v1/models", summary="List the names of the model")
@router.get("/models", include_in_schema=False)
async def list_models(access: _Access) -> JSONResponse:
    """All names are of one model."""
    data = [
        {"id": name, "object": "model", "created": 0, "owned_by": "clip-qdrant"}  # when it was made, no model tells
        for name in access.service.options.model_names
    ]
    return JSONResponse({"object": "list", "data": data})
