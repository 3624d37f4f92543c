"""ClipMultiModalEmbedding: an embedder as the MultiModalEmbedding of LlamaIndex."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.constants import DEFAULT_EMBED_BATCH_SIZE
from llama_index.core.embeddings import MultiModalEmbedding

from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.embedder_protocol import Embedder, check_embedder

if TYPE_CHECKING:
    from llama_index.core.schema import ImageType

__all__ = ["ClipMultiModalEmbedding"]


class ClipMultiModalEmbedding(MultiModalEmbedding):
    """Vectors of texts and of images, in one space: lists of `embedder.dim` floats of length 1.

    A query is embedded as a search of a collection does it, with the prompts of the model if it has any; other texts
    are taken as they are. An image is a path or a BytesIO of the bytes of a file. Async methods run in a thread.

    Raises ConfigError for what is no embedder. Embedding raises QueryError for an empty query, ImageError, SourceError.
    """

    _embedder: Embedder = PrivateAttr()

    def __init__(self, embedder: Embedder, *, embed_batch_size: int = DEFAULT_EMBED_BATCH_SIZE) -> None:
        check_embedder(embedder)
        super().__init__(model_name=f"clip-qdrant {embedder.fingerprint[:12]}", embed_batch_size=embed_batch_size)
        self._embedder = embedder

    @classmethod
    def class_name(cls) -> str:
        return "ClipMultiModalEmbedding"

    @property
    def embedder(self) -> Embedder:
        """What makes the vectors."""
        return self._embedder

    def _get_query_embedding(self, query: str) -> list[float]:
        return _to_list(embed_query_texts([query], self._embedder)[0])

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return _to_list(self._embedder.embed_texts([text])[0])

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [_to_list(vector) for vector in self._embedder.embed_texts(texts)]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    def _get_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    async def _aget_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        images = [image.getvalue() if isinstance(image, BytesIO) else image for image in img_file_paths]
        return [_to_list(vector) for vector in self._embedder.embed_images(images)]

    async def _aget_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)


def _to_list(vector: Any) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers
