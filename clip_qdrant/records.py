"""What the parts of the package pass to each other: frozen records, and the payload profile of a point.

Every writer (ImageCollection.add, the ingestion pipeline) stores an image as the same payload:
`uri, caption, metadata{...}, image{width, height, format, bytes, sha256, phash, tags{...}}, taken_at,
location{lat, lon}, source{name, etag, size, mtime, metadata{...}}, duplicate_of, fingerprint, ingested_at`. Unknown
parts are left out, never null.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote_to_bytes, urlsplit

__all__ = [
    "FIELD_TYPES",
    "METADATA_PREFIX",
    "RESERVED_FIELDS",
    "Facet",
    "FieldType",
    "Hit",
    "ImageInfo",
    "ImageRecord",
    "Location",
    "SourceInfo",
    "isoformat",
    "path_of",
    "point_id",
    "stored_source",
    "to_uri",
    "with_stored_image",
]

FieldType = Literal["keyword", "integer", "float", "bool", "datetime", "geo", "text"]
FIELD_TYPES: tuple[FieldType, ...] = ("keyword", "integer", "float", "bool", "datetime", "geo", "text")

METADATA_PREFIX = "metadata."  # of the payload keys of user fields

# The payload names that are not user metadata and carry an index in every collection. In a where expression
# these names mean themselves; any other bare name means metadata.<name>.
RESERVED_FIELDS: Mapping[str, FieldType] = {
    "uri": "keyword",
    "caption": "text",
    "taken_at": "datetime",
    "location": "geo",
    "ingested_at": "datetime",
    "fingerprint": "keyword",
    "image.width": "integer",
    "image.height": "integer",
    "image.bytes": "integer",
    "image.format": "keyword",
    "image.sha256": "keyword",
    "source.name": "keyword",
    "duplicate_of": "keyword",
}

_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|urn:|file:")
_POINT_NAMESPACE = uuid.UUID("6f1d5b0e-52b6-5e0c-9a3e-0d4f3f1c7a51")


def point_id(uri: str) -> str:
    """The id of the point of the image at `uri`: uuid5 (RFC 9562) in a fixed namespace, so writing is idempotent."""
    return str(uuid.uuid5(_POINT_NAMESPACE, uri))


def to_uri(name: str | Path) -> str:
    """The uri of an image: a name that has a scheme already stands for itself, anything else is a local path.

    A path becomes absolute and percent-encoded (`file:///…`, RFC 8089), so that any byte in a file name survives.
    `.` and `..` are taken out, so that one file has one uri from every folder; links are not followed.
    """
    if isinstance(name, str) and _HAS_SCHEME.match(name):
        return name
    return Path(os.path.abspath(name)).as_uri()  # noqa: PTH100  Path.absolute() keeps `..`


def path_of(uri: str) -> Path | None:
    """The local path behind a `file:` uri, None for any other."""
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return None
    return Path(os.fsdecode(unquote_to_bytes(parts.path)))


def isoformat(moment: datetime) -> str:
    """RFC 3339 text of a moment; one without a zone is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.isoformat()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What decoding told about an image: size in pixels after orientation, size in bytes, two hashes, and its tags.

    `tags` are what the file says of itself in EXIF, IPTC and XMP (`images.metadata.merge`), as metadata fields.
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
    """Where an image came from, and what tells whether it changed: `size` in bytes, `mtime` in seconds since 1970.

    `name` is that of the source whose word caption and metadata are; None where they came from elsewhere.
    `metadata` are what the object's own headers say (the user metadata of a bucket).
    """

    name: str | None
    etag: str | None = None
    size: int | None = None
    mtime: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Location:
    """A place on the WGS 84 ellipsoid, in degrees."""

    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image to be stored, without its vector. `duplicate_of` is the uri of the image it is nearly equal to."""

    uri: str
    caption: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    image: ImageInfo | None = None
    taken_at: datetime | None = None
    location: Location | None = None
    source: SourceInfo | None = None
    duplicate_of: str | None = None

    @property
    def id(self) -> str:
        return point_id(self.uri)

    def payload(self, *, fingerprint: str, ingested_at: datetime) -> dict[str, Any]:
        """The payload profile of this image, JSON types only. `metadata` must hold JSON types already."""
        parts: dict[str, Any] = {
            "uri": self.uri,
            "caption": self.caption,
            "metadata": dict(self.metadata),
            "image": _present(self.image) if self.image else None,
            "taken_at": isoformat(self.taken_at) if self.taken_at else None,
            "location": asdict(self.location) if self.location else None,
            "source": _present(self.source) if self.source else None,
            "duplicate_of": self.duplicate_of,
            "fingerprint": fingerprint,
            "ingested_at": isoformat(ingested_at),
        }
        return {name: value for name, value in parts.items() if value is not None}


def _present(part: ImageInfo | SourceInfo) -> dict[str, Any]:
    """The fields of a part of the payload that say something."""
    return {name: value for name, value in asdict(part).items() if value is not None and value != {}}


def stored_source(payload: Mapping[str, Any]) -> SourceInfo | None:
    """What a payload says of its source; parts that this version does not know are passed over."""
    source = payload.get("source")
    if not source:
        return None
    known = {part.name for part in fields(SourceInfo)}
    return SourceInfo(**{"name": None, **{name: value for name, value in source.items() if name in known}})


def with_stored_image(record: ImageRecord, stored: Mapping[str, Any]) -> ImageRecord:
    """The record with what a payload of the same bytes says of them: what decoding them had told."""
    taken_at, location = stored.get("taken_at"), stored.get("location")
    return replace(
        record,
        image=ImageInfo(**{part.name: stored["image"].get(part.name, {}) for part in fields(ImageInfo)}),
        taken_at=datetime.fromisoformat(taken_at) if taken_at else None,
        location=Location(**location) if location else None,
        duplicate_of=stored.get("duplicate_of"),
    )


@dataclass(frozen=True, slots=True)
class Facet:
    """One value of a field and the number of images that have it."""

    value: str | int | bool
    count: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search. `score` is the cosine similarity, -1 to 1 (None where nothing was compared)."""

    id: str
    score: float | None
    uri: str
    caption: str | None
    metadata: Mapping[str, Any]
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> Path | None:
        """The local file, for an image that came from one."""
        return path_of(self.uri)

    def _repr_html_(self) -> str:
        from clip_qdrant.pages.hits import card_html

        return card_html(self)
