"""The names of columns, or of keys in JSON, that mean the image and its caption."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clip_qdrant.errors import SourceError

__all__ = [
    "CAPTION_COLUMNS",
    "FILE_COLUMNS",
    "IMAGE_COLUMNS",
    "check_columns",
    "find_column",
    "find_field",
    "parse_list",
]

# Of each, the first that is there counts.
FILE_COLUMNS = ("image", "image_path", "file_name", "filename", "filepath", "image_name", "img", "path", "file")
IMAGE_COLUMNS = ("uri", "url", "image_url", *FILE_COLUMNS)  # where an address may stand, too
CAPTION_COLUMNS = ("captions", "caption", "text", "sentences", "comment")


def find_column(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The name that is the first one wanted. Spaces around it, and upper or lower case, make no difference.

    Of several that differ in that alone, the one that is written as it is wanted is taken, otherwise the first.
    """
    names = list(names)
    if wanted[0] in names:  # as a rule, and there may be millions of rows
        return wanted[0]
    plain = [name.strip().lower() for name in names]
    for each in wanted:
        if each in names:
            return each
        if each.lower() in plain:
            return names[plain.index(each.lower())]
    return None


def find_field(fields: Mapping[str, Any], wanted: Sequence[str]) -> str | None:
    """As `find_column`, for a row by itself: what is null or empty counts as not there."""
    return find_column((name for name, value in fields.items() if value is not None and value != ""), wanted)


def parse_list(cell: str) -> list[Any] | None:
    """The list that a cell holds as JSON, of texts, numbers or booleans; None for a cell that holds none."""
    if not cell.startswith("[") or not cell.endswith("]"):
        return None
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    plain = isinstance(value, list) and not any(isinstance(each, (list, dict)) for each in value)
    return value if plain else None


def check_columns(names: Sequence[str]) -> None:
    """Raises SourceError for a header that has a name twice. Columns without a name are no harm."""
    if doubled := {name for name, count in Counter(names).items() if name and count > 1}:
        shown = ", ".join(map(repr, sorted(doubled)[:5]))
        raise SourceError(f"there are several columns {shown}; give each its own name")
