"""embed_ahead: the texts of a search are embedded before it takes a thread, in which it finds them kept.

Threads are few, since the store wants them; those that wait for the encoder would keep searches out that are ready.
"""

from __future__ import annotations

from collections.abc import Sequence

from clip_qdrant.collection.query import write_prompts
from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.service.batching.embedder import BatchingEmbedder
from clip_qdrant.service.batching.vector_cache import LONGEST_KEPT

__all__ = ["embed_ahead"]


async def embed_ahead(texts: Sequence[str], embedder: Embedder) -> None:
    """Embeds texts as a search will want them, if the embedder is one that keeps them.

    Raises QueryError for an empty one, Overloaded, DeadlineExceeded.
    """
    if not isinstance(embedder, BatchingEmbedder) or not embedder.options.cached_texts:
        return
    written = [text for prompted in write_prompts(texts, embedder) for text in prompted]
    await embedder.aembed_texts([text for text in written if len(text) <= LONGEST_KEPT])
