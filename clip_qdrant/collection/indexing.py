"""Whether the vectors of a collection on a server are indexed: a bulk load switches it off, and puts it back."""

from __future__ import annotations

from qdrant_client import models

__all__ = ["KEPT_THRESHOLD", "explain_indexing", "kept_threshold"]

# In the metadata of a collection while a bulk load goes on: the indexing threshold from before, kB of vectors.
KEPT_THRESHOLD = "clip_qdrant_indexing_threshold"


def kept_threshold(config: models.CollectionConfig) -> int | None:
    """The threshold that a bulk load keeps, None if none goes on or was killed."""
    kept = (config.metadata or {}).get(KEPT_THRESHOLD)
    return kept if isinstance(kept, int) and kept > 0 else None


def explain_indexing(config: models.CollectionConfig) -> str | None:
    """Why no vector is indexed, and what to do; None if they are, or the store has no index to switch off."""
    if config.optimizer_config.indexing_threshold != 0:
        return None
    if kept_threshold(config) is not None:
        return "not indexed: a bulk load goes on, or was killed, and the next ingest puts the indexing back"
    return "not indexed: its indexing_threshold is 0, so searches compare all vectors; ingest --bulk sets it right"
