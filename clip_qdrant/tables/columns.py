"""The names of columns, or of keys in JSON, that mean the image and its caption."""

from __future__ import annotations

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


def check_columns(names: Sequence[str]) -> None:
    """Raises SourceError for a header that has a name twice. Columns without a name are no harm."""
    if doubled := {name for name in names if name and names.count(name) > 1}:
        shown = ", ".join(map(repr, sorted(doubled)))
        raise SourceError(f"there are several columns {shown}; give each its own name")
