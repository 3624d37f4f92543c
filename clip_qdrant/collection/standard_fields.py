"""The standard fields of an image that its metadata may fill: `caption`, `taken_at` and `location`.

In a filter these names mean the payload fields that every image has. So metadata of that name becomes them, from
whichever sidecar, table or argument it comes, instead of lying unseen below `metadata`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from clip_qdrant.errors import ConfigError, MetadataError
from clip_qdrant.fields.dates import parse_datetime
from clip_qdrant.fields.types import RESERVED_FIELDS, FieldType, Location
from clip_qdrant.fields.values import check_text, convert_value, misfit, name_in_error, unbox
from clip_qdrant.images.metadata.dates import parse_photo_date
from clip_qdrant.records import ImageRecord

__all__ = ["STANDARD_FIELDS", "check_declared_fields", "fill_standard_fields"]

STANDARD_FIELDS: Mapping[str, FieldType] = {name: RESERVED_FIELDS[name] for name in ("caption", "taken_at", "location")}
_DEGREES = re.compile(r"\s*([+-]?[0-9]+(?:\.[0-9]*)?)\s*[,;\s]\s*([+-]?[0-9]+(?:\.[0-9]*)?)\s*", re.ASCII)


def check_declared_fields(fields: Mapping[str, FieldType]) -> Mapping[str, FieldType]:
    """The declared metadata fields without those that every image has. ConfigError for one of these of another type.

    A location may be declared as keyword or text: one in words stays metadata.
    """
    if not isinstance(fields, Mapping):
        raise ConfigError(f"fields is a dict of names and types, such as {{'year': 'integer'}}, not {fields!r}")
    own = {}
    for name, field_type in fields.items():
        wanted = STANDARD_FIELDS.get(name)
        if wanted is None or (name == "location" and field_type in ("keyword", "text")):
            own[name] = field_type
        elif field_type != wanted:
            raise ConfigError(
                f"{name} is a field of every image, of type {wanted}, which metadata of that name fills; leave it out "
                f"of fields, or use another name for one of type {field_type}"
            )
    return own


def fill_standard_fields(record: ImageRecord, *, left_out: list[MetadataError] | None = None) -> ImageRecord:
    """The record with the standard fields that its metadata names, and the rest of the metadata.

    A caption of the record stays; a date or place of the metadata goes over that of the record. None is absent, and a
    location in words stays metadata. Raises MetadataError for a value that cannot be read, and for a caption that is no
    text; with `left_out` such a value is left out, and its error added to that list.
    """
    caption = _read("caption", record.caption, record.uri, left_out)
    if not (isinstance(record.metadata, Mapping) and STANDARD_FIELDS.keys() & record.metadata.keys()):
        return record if caption is record.caption else replace(record, caption=caption)
    given = {name: record.metadata[name] for name in STANDARD_FIELDS if name in record.metadata}
    if _is_name(given.get("location")):
        del given["location"]
    found = {name: _read(name, given.get(name), record.uri, left_out) for name in STANDARD_FIELDS}
    return replace(
        record,
        caption=found["caption"] or None if caption is None else caption,
        taken_at=found["taken_at"] or record.taken_at,
        location=found["location"] or record.location,
        metadata={name: value for name, value in record.metadata.items() if name not in given},
    )


def _is_name(place: Any) -> bool:
    """Whether a place is told in words, such as Berlin: metadata of that name, and no point on the earth."""
    return isinstance(place, str) and not any(character.isdigit() for character in place)


def _read(name: str, value: Any, uri: str, left_out: list[MetadataError] | None) -> Any:
    """The value of a standard field; None where it is absent or left out."""
    if value is None:
        return None
    try:
        if name == "caption":
            return _read_caption(value, uri)
        value = unbox(value, uri, name)
        return _read_moment(value, uri) if name == "taken_at" else _read_place(value, uri)
    except MetadataError as error:
        if left_out is None:
            raise
        left_out.append(error)
        return None


def _read_caption(value: Any, uri: str) -> str:
    if not isinstance(value, str):
        raise MetadataError(f"{name_in_error(uri)}caption must be text, not {value!r}", field="caption")
    check_text(value, uri, "caption")
    return value


def _read_moment(value: Any, uri: str) -> datetime:
    if isinstance(value, date):
        value = convert_value(value, "datetime", uri, "taken_at")
    if isinstance(value, str):
        if (moment := parse_datetime(value.strip())) is not None:
            return moment
        if (found := parse_photo_date(value)) is not None:
            return found.moment
    raise misfit(uri, "taken_at", value, "is no date; write ISO 8601 text such as 2024-05-01T18:30:00+02:00")


def _read_place(value: Any, uri: str) -> Location:
    if isinstance(value, str) and (match := _DEGREES.fullmatch(value)):
        value = [float(match[1]), float(match[2])]
    if isinstance(value, list) and len(value) == 2:
        value = {"lat": value[0], "lon": value[1]}
    if isinstance(value, Mapping) and value.keys() == {"latitude", "longitude"}:
        value = {"lat": value["latitude"], "lon": value["longitude"]}
    if not isinstance(value, Mapping):
        raise misfit(uri, "location", value, "is no place; write degrees of latitude and longitude, such as 48.1,11.5")
    return Location(**convert_value(value, "geo", uri, "location"))
