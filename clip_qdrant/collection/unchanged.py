"""Whether an image is unchanged: the same bytes under the same embedder, the same caption and metadata as are stored.

`ImageCollection.add` asks both. A run of ingestion asks first what a listing tells (`run.decisions`), and these then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip_qdrant.fields.values import same_json
from clip_qdrant.records import ImageRecord

__all__ = ["has_same_bytes", "has_same_description"]


def has_same_bytes(stored: Mapping[str, Any], sha256: str, *, fingerprint: str) -> bool:
    """Whether a stored payload goes with the vector that the embedder of this fingerprint gives these bytes."""
    image = stored.get("image") or {}
    return bool(image.get("sha256") == sha256 and stored.get("fingerprint") == fingerprint)


def has_same_description(record: ImageRecord, stored: Mapping[str, Any]) -> bool:
    """Whether caption and metadata are as they are stored. The record is one that `CollectionWriter.check` gave."""
    return record.caption == stored.get("caption") and same_json(record.metadata, stored.get("metadata", {}))
