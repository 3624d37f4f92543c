"""ClipTextEmbedder: a text to the vector that a search by it uses."""

from __future__ import annotations

import asyncio
from typing import Any

from haystack import component, default_from_dict, default_to_dict

from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.content import BUNDLED
from clip_qdrant.embedder_protocol import Embedder
from haystack_integrations.document_stores.clip_qdrant.model import Runtime, load_embedder

__all__ = ["ClipTextEmbedder"]


@component
class ClipTextEmbedder:
    """Embeds a query text into the space of the images, with the prompts of the model around it if it has any.

    `model`, `runtime` and `device` are those of `ClipEmbedder.load`: "bundled", a path, "hf:…" or "open_clip:…".
    """

    def __init__(self, model: str = BUNDLED, *, runtime: Runtime = "auto", device: str = "auto") -> None:
        self.model = str(model)
        self.runtime = runtime
        self.device = device
        self._embedder: Embedder | None = None

    def to_dict(self) -> dict[str, Any]:
        """The component as Haystack writes it into a file."""
        return default_to_dict(self, model=self.model, runtime=self.runtime, device=self.device)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClipTextEmbedder:
        """The component that `to_dict` described."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Loads the model. Raises CheckpointError, ExportError, ConfigError."""
        if self._embedder is None:
            self._embedder = load_embedder(self.model, runtime=self.runtime, device=self.device)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The unit vector of a text, `dim` floats. Raises QueryError for a text that is empty or none."""
        self.warm_up()
        assert self._embedder is not None
        return {"embedding": embed_query_texts([text], self._embedder)[0].tolist()}

    @component.output_types(embedding=list[float])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` for async code, in a thread."""
        return await asyncio.to_thread(self.run, text=text)
