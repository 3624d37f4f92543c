"""Whether an image is unchanged: the same bytes under the same embedder, the same description as is stored.

`ImageCollection.add` asks both. A run of ingestion asks first what a listing tells (`run.decisions`), and these then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from clip_qdrant.fields.values import same_json
from clip_qdrant.records import ImageRecord

__all__ = ["has_same_bytes", "has_same_description"]


def has_same_bytes(stored: Mapping[str, Any], sha256: str, *, fingerprint: str) -> bool:
    """Whether a stored payload goes with the vector that the embedder of this fingerprint gives these bytes."""
    image = stored.get("image") or {}
    return bool(image.get("sha256") == sha256 and stored.get("fingerprint") == fingerprint)


def has_same_description(record: ImageRecord, stored: Mapping[str, Any]) -> bool:
    """Whether caption, date, place and metadata are as they are stored.

    The record is one that `CollectionWriter.check` gave.
    """
    taken_at = record.taken_at.isoformat() if record.taken_at else None
    location = asdict(record.location) if record.location else None
    return (
        record.caption == stored.get("caption")
        and taken_at == stored.get("taken_at")
        and same_json(location, stored.get("location"))
        and same_json(record.metadata, stored.get("metadata", {}))
    )
