"""An image to be stored, and the payload profile of its point.

Every writer (ImageCollection.add, the ingestion pipeline) stores an image as the same payload:
`uri, caption, metadata{...}, image{width, height, format, bytes, sha256, phash, tags{...}}, taken_at,
location{lat, lon}, source{name, etag, size, mtime, metadata{...}}, edits{...}, duplicate_of, fingerprint,
ingested_at, local_time{taken_at, metadata{...}}, calendar{taken_at}, words{caption, metadata{...}}`. Unknown parts are
left out, never null. `taken_at` has a zone where one is known, `local_time` never; the last three are there for filters
(`fields.derived`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from clip_qdrant.fields.dates import join_dates, parse_datetime
from clip_qdrant.fields.derived import add_derived
from clip_qdrant.fields.types import RESERVED_FIELDS, FieldType, Location
from clip_qdrant.uris import point_id

__all__ = [
    "ImageInfo",
    "ImageRecord",
    "SourceInfo",
    "add_image",
    "add_stored_image",
    "apply_edits",
    "read_edits",
    "read_record",
    "read_said",
    "read_source",
]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What decoding told about an image: size in pixels after orientation, size in bytes, two hashes, and its tags.

    `tags` are what the file says of itself in EXIF, IPTC and XMP (`images.metadata`), as metadata fields, with
    `taken_at` and `location`.
    """

    width: int
    height: int
    format: str
    bytes: int
    sha256: str
    phash: str
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """Where an image came from, and what shows whether it changed: `size` in bytes, `mtime` in seconds since 1970.

    `name` is that of the source which caption and metadata come from; None where they come from elsewhere.
    `metadata` are what the object's own headers say (the user metadata of a bucket).
    """

    name: str | None
    etag: str | None = None
    size: int | None = None
    mtime: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image to be stored, without its vector. `duplicate_of` is the uri of the image it is nearly equal to.

    `taken_at` has a zone where one is known; without, it is what a clock showed where the picture was taken.
    `edits` are the fields that somebody changed in the collection, in JSON types, None for one that was taken away:
    they are in the metadata too, and stay there whatever the source of the image says later.
    """

    uri: str
    caption: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    image: ImageInfo | None = None
    taken_at: datetime | None = None
    location: Location | None = None
    source: SourceInfo | None = None
    duplicate_of: str | None = None
    edits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return point_id(self.uri)

    def payload(
        self, *, fingerprint: str, ingested_at: datetime, fields: Mapping[str, FieldType] = RESERVED_FIELDS
    ) -> dict[str, Any]:
        """The payload profile of this image, JSON types only. `metadata` must hold JSON types already.

        `fields` are the types of all fields by full payload key (`Schema.payload_fields`).
        """
        parts: dict[str, Any] = {
            "uri": self.uri,
            "caption": self.caption,
            "metadata": dict(self.metadata),
            "image": _list_parts(self.image) if self.image else None,
            "taken_at": self.taken_at.isoformat() if self.taken_at else None,
            "location": asdict(self.location) if self.location else None,
            "source": _list_parts(self.source) if self.source else None,
            "edits": dict(self.edits) or None,
            "duplicate_of": self.duplicate_of,
            "fingerprint": fingerprint,
            "ingested_at": ingested_at.isoformat(),
        }
        payload = {name: value for name, value in parts.items() if value is not None}
        return add_derived(payload, fields)


def _list_parts(part: ImageInfo | SourceInfo) -> dict[str, Any]:
    """The fields of one part of the payload, without those that are empty."""
    return {name: value for name, value in asdict(part).items() if value is not None and value != {}}


def read_source(payload: Mapping[str, Any]) -> SourceInfo | None:
    """What a payload says of its source; parts that this version does not know are passed over."""
    source = payload.get("source")
    if not source:
        return None
    known = {part.name for part in fields(SourceInfo)}
    return SourceInfo(**{"name": None, **{name: value for name, value in source.items() if name in known}})


def read_record(payload: Mapping[str, Any]) -> ImageRecord:
    """The record of a stored image, without what decoding told of it (`add_stored_image`)."""
    return ImageRecord(
        uri=payload["uri"],
        caption=payload.get("caption"),
        metadata=read_said(payload),
        source=read_source(payload),
        edits=read_edits(payload),
    )


def add_image(
    record: ImageRecord, info: ImageInfo, taken_at: datetime | None, location: Location | None
) -> ImageRecord:
    """The record with what decoding told of its image. A date and a place that the record has stay (`join_dates`).

    Those of the image are noted among its tags, so that they come back when nothing else is said any more.
    """
    tags = {
        **info.tags,
        **({"taken_at": taken_at.isoformat()} if taken_at else {}),
        **({"location": asdict(location)} if location else {}),
    }
    return replace(
        record,
        image=replace(info, tags=tags),
        taken_at=join_dates(record.taken_at, taken_at),
        location=record.location or location,
    )


def add_stored_image(record: ImageRecord, stored: Mapping[str, Any]) -> ImageRecord:
    """The record with what decoding had told of the same bytes, taken from the payload that holds it."""
    image = ImageInfo(**{part.name: stored["image"].get(part.name, {}) for part in fields(ImageInfo)})
    taken_at, location = image.tags.get("taken_at"), image.tags.get("location")
    return replace(
        record,
        image=image,
        taken_at=join_dates(record.taken_at, parse_datetime(taken_at) if taken_at else None),
        location=record.location or (Location(**location) if location else None),
        duplicate_of=stored.get("duplicate_of"),
    )


def read_edits(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were changed in the collection, None for one that was taken away."""
    return dict(payload.get("edits") or {})


def apply_edits(record: ImageRecord) -> ImageRecord:
    """The record with the fields as they were changed in the collection, as its metadata names them."""
    if not record.edits:
        return record
    metadata = {**record.metadata, **record.edits}
    gone = [name for name, value in record.edits.items() if value is None]
    return replace(
        record,
        caption=record.edits.get("caption", record.caption),
        taken_at=None if "taken_at" in gone else record.taken_at,
        location=None if "location" in gone else record.location,
        metadata={name: value for name, value in metadata.items() if value is not None and name != "caption"},
    )


def read_said(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata in a payload, with the date and the place of the image where they are not those of its file."""
    tags = (payload.get("image") or {}).get("tags") or {}
    own = {name: payload[name] for name in ("taken_at", "location") if name in payload}
    return {
        **(payload.get("metadata") or {}),
        **{name: value for name, value in own.items() if value != tags.get(name)},
    }
