"""Content: lists of texts and images as chat messages have them, and with them vLLM, Cohere and Voyage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from clip_qdrant.errors import ConfigError
from clip_qdrant.service.embedding.parts import ImagePart, InputParts, TextPart

__all__ = ["Content", "ContentPart", "EmbeddingRequest"]

_IMAGE = "a data URL, or an http(s) URL"


class EmbeddingRequest(BaseModel):
    """A request of a protocol of others, or a part of one. What it has beyond these members changes no vector, and
    nothing is converted (`"5"` is no number).
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class ImageUrl(EmbeddingRequest):
    url: str = Field(description=_IMAGE)


class ContentPart(EmbeddingRequest):
    """A text or an image: the member that `type` names."""

    type: Literal["text", "image_url", "image_base64"]
    text: str | None = None
    image_url: ImageUrl | str | None = Field(default=None, description=_IMAGE)
    image_base64: str | None = Field(default=None, description="base64, or a data URL")

    def to_part(self) -> TextPart | ImagePart:
        """Raises ConfigError if the member that `type` names is not there."""
        if self.type == "text":
            if self.text is not None:
                return TextPart(self.text)
        elif self.type == "image_url":
            if self.image_url is not None:
                return ImagePart(self.image_url if isinstance(self.image_url, str) else self.image_url.url)
        elif self.image_base64 is not None:
            return ImagePart(self.image_base64)
        raise ConfigError(f"a part of the content has the type {self.type!r} and no member {self.type}")


class Content(EmbeddingRequest):
    """One input; its texts and images become one vector."""

    content: Annotated[list[ContentPart], Field(min_length=1)]

    def to_parts(self) -> InputParts:
        return tuple(part.to_part() for part in self.content)
