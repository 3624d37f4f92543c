"""What an input of an embedding endpoint is made of, whatever the protocol: texts and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["ImagePart", "InputParts", "TextPart", "as_image_or_text"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text, embedded as one that is searched with: within the prompts of the model, if it has any."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """The bytes of an image file; or a text that has them in base64, also as a data URL; or an http(s) URL of it."""

    image: bytes | str


InputParts: TypeAlias = "tuple[TextPart | ImagePart, ...]"  # of one input, which becomes one vector


def as_image_or_text(text: str) -> TextPart | ImagePart:
    """What clients without a word for images send: the data URL of an image is one, everything else is a text."""
    return ImagePart(text) if text[:11].lower() == "data:image/" else TextPart(text)
