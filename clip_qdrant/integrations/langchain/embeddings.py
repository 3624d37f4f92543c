"""ClipEmbeddings: an embedder as the Embeddings of LangChain, for texts and for images."""

from __future__ import annotations

from collections.abc import Iterable

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor

from clip_qdrant.collection.options import list_of
from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.embedder_protocol import Embedder, check_embedder
from clip_qdrant.images.load import ImageInput

__all__ = ["ClipEmbeddings"]


class ClipEmbeddings(Embeddings):
    """Vectors of texts and of images, in one space: lists of `embedder.dim` floats of length 1.

    A query is embedded as a search of a collection does it, with the prompts of the model if it has any; documents are
    taken as they are. Raises ConfigError for what is no embedder.
    """

    def __init__(self, embedder: Embedder) -> None:
        check_embedder(embedder)
        self.embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text. Texts beyond the length of the encoder are truncated."""
        vectors: list[list[float]] = self.embedder.embed_texts(list_of("texts", texts)).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of what images should show. Raises QueryError for an empty text."""
        vector: list[float] = embed_query_texts([text], self.embedder)[0].tolist()
        return vector

    def embed_image(self, image: ImageInput) -> list[float]:
        """The vector of a path, of the bytes of a file, of a PIL image or a uint8 array.

        Raises ImageError, and SourceError for a path that cannot be read.
        """
        return self.embed_images([image])[0]

    def embed_images(self, images: Iterable[ImageInput]) -> list[list[float]]:
        """One vector an image. Raises ImageError, SourceError."""
        vectors: list[list[float]] = self.embedder.embed_images(list_of("images", images)).tolist()
        return vectors

    async def aembed_image(self, image: ImageInput) -> list[float]:
        """`embed_image` for async code."""
        return await run_in_executor(None, self.embed_image, image)

    async def aembed_images(self, images: Iterable[ImageInput]) -> list[list[float]]:
        """`embed_images` for async code."""
        return await run_in_executor(None, self.embed_images, images)
