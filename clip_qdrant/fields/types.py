"""What a field of a payload can be: its types, the names that the payload profile keeps for itself, and a place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["FIELD_TYPES", "METADATA_PREFIX", "RESERVED_FIELDS", "FieldType", "Location"]

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


@dataclass(frozen=True, slots=True)
class Location:
    """A place on the WGS 84 ellipsoid, in degrees."""

    lat: float
    lon: float
