"""Values of which only the text is known, such as the cells of a CSV file: each becomes a value of its field's type.

The type is that of the field in the collection. For a field that is new, all texts at hand decide: integers, numbers or
booleans (true, false) if all of them are, otherwise it stays text; so a field with "007" among them stays text. Date
and place of the image stay texts, for the collection to read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from clip_qdrant.collection.standard_fields import STANDARD_FIELDS
from clip_qdrant.fields.dates import parse_datetime
from clip_qdrant.fields.names import join_path
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.values import misfit
from clip_qdrant_ingestion.sources.protocol import Description

__all__ = ["common_type", "parse_text", "type_texts"]

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(
    r"[+-]?((0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?|[+-]?(0|[1-9][0-9]*)[eE][+-]?[0-9]{1,3}"
)
_BOOLEANS = {"true": True, "false": False}
_WRITTEN = {
    "integer": "is no integer; write digits without leading zeros, such as 42",
    "float": "is no number; write one such as 19.90",
    "bool": "is no boolean; write true or false",
    "datetime": "is no date; write ISO 8601 text such as 2024-05-01",
    "geo": "is no place; write degrees of latitude and longitude, such as 48.1,11.5",
}


def type_texts(descriptions: Sequence[Description], known: Mapping[str, FieldType]) -> list[Description]:
    """The descriptions, in order, with their texts as metadata; a text that does not fit its field is left out.

    `known` has the types of the collection's fields, by their names there. An empty text is an absent value.
    """
    fields: dict[str, list[str]] = {}
    for description in descriptions:
        for key, text in description.texts.items():
            if text:
                fields.setdefault(key, []).append(text)
    types: dict[str, FieldType] = {
        key: "keyword" if key in STANDARD_FIELDS else known.get(join_path((key,))) or common_type(texts)
        for key, texts in fields.items()
    }
    return [_type_one(_retype_cells(description, known), types) for description in descriptions]


def common_type(texts: Iterable[str]) -> FieldType:
    """The type that all these texts have: integer, float, bool, otherwise keyword."""
    texts = list(texts)
    if all(_INTEGER.fullmatch(text) for text in texts):
        return "integer"
    if all(_number(text) is not None for text in texts):
        return "float"
    return "bool" if all(text.lower() in _BOOLEANS for text in texts) else "keyword"


def parse_text(text: str, field_type: FieldType) -> Any:
    """The value of this type that the text stands for; None where it stands for none."""
    if field_type == "integer":
        return int(text) if _INTEGER.fullmatch(text) else None
    if field_type == "float":
        return _number(text)
    if field_type == "bool":
        return _BOOLEANS.get(text.lower())
    if field_type == "geo":
        degrees = [_number(part.strip()) for part in text.split(",")]
        if len(degrees) != 2 or None in degrees:
            return None
        return {"lat": degrees[0], "lon": degrees[1]}
    if field_type == "datetime":
        return text if parse_datetime(text) else None
    return text


def _retype_cells(description: Description, known: Mapping[str, FieldType]) -> Description:
    """The description with the values of tables as their fields have them, where their texts allow it."""
    if not description.written:
        return description
    metadata = dict(description.metadata)
    for key, text in description.written.items():
        field_type = known.get(join_path((key,)))
        value = parse_text(text, field_type) if field_type is not None else None
        if value is not None:
            metadata[key] = value
    return replace(description, metadata=metadata, written={})


def _type_one(description: Description, types: Mapping[str, FieldType]) -> Description:
    if not description.texts:
        return description
    values: dict[str, Any] = {}
    left_out = [*description.left_out]
    for key, text in description.texts.items():
        if not text:
            continue
        value = parse_text(text, types[key])
        if value is None:
            problem = f"does not fit its type {types[key]}: it {_WRITTEN[types[key]]}, or use another name"
            left_out.append(misfit(None, join_path((key,)), text, problem))
        else:
            values[key] = value
    return Description(
        description.caption,
        {**values, **description.metadata},
        partial=description.partial,
        left_out=tuple(left_out),
    )


def _number(text: str) -> float | None:
    if not (_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)):
        return None
    number = float(text)
    return number if math.isfinite(number) else None
