"""What the fields of a row, or of a JSON object beside an image, say of the image.

`caption` is the caption, in tables also the others of CAPTION_COLUMNS; an object in `metadata`, and all other fields,
are metadata. `taken_at` and `location` among them are the date and the place of the image
(`collection.standard_fields`), and so are `lat` and `lon`, or `latitude` and `longitude`. Upper and lower case are one
in all these names. A field that cannot be stored is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.values import describe_value
from clip_qdrant.tables.columns import find_column, find_field, parse_list
from clip_qdrant.tables.rows import parse_object
from clip_qdrant_ingestion.sources.protocol import Description

__all__ = ["describe_cells", "describe_fields", "describe_text"]

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LOOKED_AT = 4000  # characters
_DEGREES = (("lat", "lon"), ("latitude", "longitude"), ("lat", "lng"), ("lat", "long"))
_STANDARD = frozenset({"taken_at", "location"}.union(*_DEGREES))


def describe_fields(fields: Mapping[str, Any], captions: Sequence[str] = ("caption",)) -> Description:
    """What an object of JSON or a row of Parquet says. None is absent.

    The caption is the first there is of the fields `captions`; of several texts in a list, the first.
    """
    left_out: list[MetadataError] = []
    caption, nested, others = _split(fields, captions)
    try:
        caption = _first_text(caption)
    except MetadataError as error:
        left_out.append(error)
        caption = None
    if nested is not None and not isinstance(nested, Mapping):
        left_out.append(MetadataError(f"metadata must be an object, not {describe_value(nested)}", field="metadata"))
        nested = None
    metadata = {}
    for name, value in _name_standard_fields({**others, **(nested or {})}).items():
        try:
            if value is not None:
                metadata[name] = _plain(value, name)
        except MetadataError as error:
            left_out.append(error)
    if caption is None and isinstance(inner := metadata.get("caption"), str):
        caption = inner.strip()
        del metadata["caption"]
    return Description(caption or None, metadata, left_out=tuple(left_out))


def describe_cells(cells: Mapping[str, str], captions: Sequence[str] = ("caption",)) -> Description:
    """What the cells of a CSV row say, of which only the text is known; one that holds a JSON list is a list.

    `captions` as in `describe_fields`.
    """
    caption, nested, others = _split(cells, captions)
    inner = Description()
    if nested:
        try:
            inner = describe_fields(parse_object(nested))
        except MetadataError as error:
            inner = Description(left_out=(MetadataError(f"metadata: {error}", field="metadata"),))
    metadata, texts = dict(inner.metadata), {}
    for name, text in _name_standard_fields(others).items():
        if name in metadata:
            continue
        if (values := parse_list(text)) is None:
            texts[name] = text
        else:
            metadata[name] = [value for value in values if value is not None]
    several = parse_list(caption) if caption else None
    if several is not None and all(isinstance(text, str) for text in several):
        caption = several
    return Description(_first_text(caption) or inner.caption, metadata, texts, left_out=inner.left_out)


def describe_text(text: str) -> Description:
    """What a text file beside an image says: its caption, unless it holds labels of objects, or JSON or XML."""
    text = text.strip()
    if (what := _find_no_caption(text)) is None:
        return Description(text or None)
    return Description(left_out=(MetadataError(f"a text file holds {what}, which is no caption", field="caption"),))


def _find_no_caption(text: str) -> str | None:
    """What a text is, if it is no caption. YOLO writes a number and four more a line, KITTI and DOTA a word or two."""
    words = text[:_LOOKED_AT].split()
    numbers = sum(_NUMBER.fullmatch(word) is not None for word in words)
    if numbers >= 4 and 4 * numbers >= 3 * len(words):
        return "numbers, as labels of objects are written"
    if text.startswith("{") and text.endswith("}") and '"' in text:
        return "JSON"
    return "XML" if text.startswith("<?xml") else None


def _first_text(caption: Any) -> str | None:
    """A caption, or the first of several. Raises MetadataError."""
    texts = caption if isinstance(caption, list) else [] if caption is None else [caption]
    if any(not isinstance(text, str) for text in texts):
        raise MetadataError(f"caption must be text, not {describe_value(caption)}", field="caption")
    return next((text.strip() for text in texts if text.strip()), None)


def _split(fields: Mapping[str, Any], captions: Sequence[str]) -> tuple[Any, Any, dict[str, Any]]:
    """The caption, the metadata object, and all others."""
    others = dict(fields)
    caption = find_field(others, captions) if captions else None
    nested = find_column(others, ("metadata",))
    return (
        None if caption is None else others.pop(caption),
        None if nested is None else others.pop(nested),
        others,
    )


def _name_standard_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with date and place under the names that every image has for them."""
    named = dict(fields)
    if _STANDARD.isdisjoint(name.strip().lower() for name in named):  # as a rule, and a row may have many columns
        return named
    for wanted in ("taken_at", "location"):
        name = find_column(named, (wanted,))
        if name is not None and name != wanted:
            named[wanted] = named.pop(name)
    for parts in _DEGREES:
        lat, lon = (find_column(named, (part,)) for part in parts)
        if lat is None or lon is None or named.get("location") is not None:
            continue
        if named[lat] not in (None, "") and named[lon] not in (None, ""):
            north, east = named.pop(lat), named.pop(lon)
            are_texts = isinstance(north, str) and isinstance(east, str)
            named["location"] = f"{north},{east}" if are_texts else {"lat": north, "lon": east}
    return named


def _plain(value: Any, name: str) -> Any:
    """A value of a table as metadata has it: objects without what is absent, decimal numbers as floats."""
    if isinstance(value, Mapping):
        return {key: _plain(each, name) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_plain(each, name) for each in value if each is not None]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (bytes, bytearray)):
        raise MetadataError(f"{name} holds {len(value)} bytes, which is no metadata; leave the column out", field=name)
    return value
