"""What the tests of embedding endpoints share: an embedder with prompts, a bias and tokens, and images as clients send
them."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
from fakes import FakeEmbedder, solid_image

from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.model_inputs.prompts import Prompts

__all__ = ["WordEmbedder", "data_url", "image_rows", "png", "text_rows"]


class WordEmbedder(FakeEmbedder):
    """Its tokens are words, and it has two prompts and a bias."""

    @property
    def prompts(self) -> Prompts:
        return Prompts(("a photo of {}", "{}"), bias=(0.1, 0.2, *[0.0] * (self.dim - 2)))

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def png(colour: str, size: tuple[int, int] = (24, 16)) -> bytes:
    file = io.BytesIO()
    solid_image(colour, size).save(file, "PNG")
    return file.getvalue()


def data_url(colour: str, size: tuple[int, int] = (24, 16)) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(colour, size)).decode()}"


def text_rows(*texts: str) -> np.ndarray:
    """The vectors that a search makes of texts with a WordEmbedder."""
    return embed_query_texts(texts, WordEmbedder())


def image_rows(*colours: str) -> np.ndarray:
    return WordEmbedder().embed_images([png(colour) for colour in colours])
