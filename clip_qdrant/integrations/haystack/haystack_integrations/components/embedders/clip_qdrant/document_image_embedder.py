"""ClipDocumentImageEmbedder: documents with images to the same documents with the vectors of these images."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from clip_qdrant.content import BUNDLED
from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.errors import ConfigError
from haystack_integrations.document_stores.clip_qdrant.images import FILE_PATH, find_image
from haystack_integrations.document_stores.clip_qdrant.model import Runtime, load_embedder

__all__ = ["ClipDocumentImageEmbedder"]


@component
class ClipDocumentImageEmbedder:
    """Embeds the images of documents: the blob of each, or the file that `meta[file_path_meta_field]` names.

    Paths are relative to `root_path`, where there is one, and may not lead out of it; the rest is as in
    ClipTextEmbedder. For documents that go into a ClipQdrantDocumentStore it is not needed: that embeds them itself,
    and keeps size, date and place of each image too.
    """

    def __init__(
        self,
        model: str = BUNDLED,
        *,
        file_path_meta_field: str = FILE_PATH,
        root_path: str | None = None,
        runtime: Runtime = "auto",
        device: str = "auto",
    ) -> None:
        self.model = str(model)
        self.file_path_meta_field = file_path_meta_field
        self.root_path = root_path
        self.runtime = runtime
        self.device = device
        self._embedder: Embedder | None = None

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack writes it into a file."""
        return default_to_dict(
            self,
            model=self.model,
            file_path_meta_field=self.file_path_meta_field,
            root_path=self.root_path,
            runtime=self.runtime,
            device=self.device,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClipDocumentImageEmbedder:
        """The component that `to_dict` described."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Loads the model. Raises CheckpointError, ExportError, ConfigError."""
        if self._embedder is None:
            self._embedder = load_embedder(self.model, runtime=self.runtime, device=self.device)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents with `embedding`, and `meta["embedding_source"]` as Haystack's own image embedders note it.

        Raises ImageError, SourceError, and ConfigError for a document without an image.
        """
        self.warm_up()
        assert self._embedder is not None
        images = [self._find_image(document) for document in documents]
        rows = self._embedder.embed_images(images)  # (n, dim), float32
        source = {"type": "image", "file_path_meta_field": self.file_path_meta_field}
        embedded = [
            replace(document, embedding=row.tolist(), meta={**document.meta, "embedding_source": source})
            for document, row in zip(documents, rows, strict=True)
        ]
        return {"documents": embedded}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` for async code, in a thread."""
        return await asyncio.to_thread(self.run, documents=documents)

    def _find_image(self, document: Document) -> Any:
        image = find_image(document, field=self.file_path_meta_field, root=self.root_path)
        if image is None:
            raise ConfigError(
                f"document {document.id} has no image: it needs a blob, or a path in "
                f"meta[{self.file_path_meta_field!r}]"
            )
        return image
