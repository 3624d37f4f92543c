"""What the fields of a row, or of a JSON object beside an image, say of the image.

`caption` is the caption; an object in `metadata`, and all other fields, are metadata. Upper and lower case are one in
these two names.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.values import describe_value
from clip_qdrant.tables.columns import find_column
from clip_qdrant.tables.rows import parse_object
from clip_qdrant_ingestion.sources.protocol import Description

__all__ = ["describe_cells", "describe_fields"]


def describe_fields(fields: Mapping[str, Any]) -> Description:
    """What an object of JSON or a row of Parquet says. None is absent. Raises MetadataError."""
    caption, nested, others = _split(fields)
    if caption is not None and not isinstance(caption, str):
        raise MetadataError(f"caption must be text, not {describe_value(caption)}")
    if nested is not None and not isinstance(nested, Mapping):
        raise MetadataError(f"metadata must be an object, not {describe_value(nested)}")
    return Description((caption or "").strip() or None, _present({**others, **(nested or {})}))


def describe_cells(cells: Mapping[str, str]) -> Description:
    """What the cells of a CSV row say, of which only the text is known. Raises MetadataError."""
    caption, nested, others = _split(cells)
    metadata = describe_fields(parse_object(nested)).metadata if nested else {}
    return Description(caption, metadata, {name: text for name, text in others.items() if name not in metadata})


def _split(fields: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """The caption, the metadata object, and all others."""
    others = dict(fields)
    found = {}
    for wanted in ("caption", "metadata"):
        name = find_column(others, (wanted,))
        found[wanted] = None if name is None else others.pop(name)
    return found["caption"], found["metadata"], others


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value, name) for name, value in fields.items() if value is not None}


def _plain(value: Any, name: str) -> Any:
    """A value of a table as metadata has it: objects without what is absent, decimal numbers as floats."""
    if isinstance(value, Mapping):
        return _present(value)
    if isinstance(value, list):
        return [_plain(each, name) for each in value if each is not None]
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (bytes, bytearray)):
        raise MetadataError(f"{name} holds {len(value)} bytes, which is no metadata; leave the column out")
    return value
