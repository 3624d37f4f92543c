"""What to do with one listed image, given what the collection holds of it: nothing, a new payload, or all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

from clip_qdrant.records import ImageInfo, ImageRecord, Location, SourceInfo
from clip_qdrant.values import same_json
from clip_qdrant_ingestion.sources import SourceObject

__all__ = ["Action", "Task", "decide", "same_bytes", "with_stored_image"]


class Action(Enum):
    """SKIP: as stored. REWRITE: its bytes are the same, caption, metadata or source are not. LOAD: read it."""

    SKIP = "skip"
    REWRITE = "rewrite"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Task:
    """An image to work on: `record` is what is to be stored, yet without what the bytes tell."""

    item: SourceObject
    record: ImageRecord
    stored: Mapping[str, Any] | None
    action: Action


def decide(record: ImageRecord, stored: Mapping[str, Any] | None, *, fingerprint: str) -> Action:
    """What an image needs, from its listing alone. `record` must be normalised by `ImageCollection.check`."""
    if stored is None or stored.get("fingerprint") != fingerprint or not stored.get("image"):
        return Action.LOAD
    if not _same_source(record.source, stored.get("source")):
        return Action.LOAD
    same = record.caption == stored.get("caption") and same_json(record.metadata, stored.get("metadata", {}))
    return Action.SKIP if same else Action.REWRITE


def _same_source(source: SourceInfo | None, stored: Mapping[str, Any] | None) -> bool:
    """Whether the bytes must be the ones that were read: the etag decides, or else size and mtime."""
    if source is None or not stored or source.name != stored.get("name"):
        return False
    if source.etag is not None:
        return source.etag == stored.get("etag") and source.size == stored.get("size")
    known = source.size is not None and source.mtime is not None
    return known and source.size == stored.get("size") and same_json(source.mtime, stored.get("mtime"))


def same_bytes(stored: Mapping[str, Any] | None, sha256: str, *, fingerprint: str) -> bool:
    """Whether the stored vector is that of these bytes."""
    if stored is None or stored.get("fingerprint") != fingerprint:
        return False
    return bool(stored.get("image", {}).get("sha256") == sha256)


def with_stored_image(record: ImageRecord, stored: Mapping[str, Any]) -> ImageRecord:
    """The record with what its bytes had told when they were decoded."""
    taken_at, location = stored.get("taken_at"), stored.get("location")
    return replace(
        record,
        image=ImageInfo(**stored["image"]),
        taken_at=datetime.fromisoformat(taken_at) if taken_at else None,
        location=Location(**location) if location else None,
    )
