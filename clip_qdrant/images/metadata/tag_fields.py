"""The fields that come from what an image file says of itself, and how its texts are cleaned.

All of it is a stranger's text: what is odd is left out, never an error, and nothing is long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clip_qdrant.fields.types import FieldType, Location

__all__ = ["TAG_FIELDS", "FileTags", "choose_values", "decode_text"]

TAG_FIELDS: Mapping[str, FieldType] = {
    "title": "text",
    "description": "text",
    "keywords": "keyword",  # a list; all others are one value
    "creator": "keyword",
    "copyright": "keyword",
    "camera": "keyword",
    "lens": "keyword",
    "software": "keyword",
    "exposure_time": "float",  # seconds
    "f_number": "float",
    "iso": "integer",
    "focal_length": "float",  # millimetres
    "altitude": "float",  # metres over the sea
}

_MAX_TEXT = 2000  # characters
_MAX_KEYWORDS = 100
# Control characters, those that turn the direction of writing, and halves of a surrogate pair.
_UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class FileTags:
    """`fields` are some of TAG_FIELDS, in JSON types; `orientation` is that of EXIF, 1 to 8 in a good file."""

    fields: Mapping[str, Any]
    taken_at: datetime | None
    location: Location | None
    orientation: Any


def choose_values(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Each of TAG_FIELDS from the first of the sources that says something of it, as it may be stored."""
    fields = {}
    for name in TAG_FIELDS if any(sources) else ():
        for source in sources:
            value = _clean(name, source.get(name))
            if value not in (None, "", []):
                fields[name] = value
                break
    return fields


def decode_text(value: bytes) -> str:
    """The text of bytes that name no encoding: UTF-8, or else Windows-1252.

    No text of Windows-1252 with an accent in it reads like UTF-8. It has letters and quotation marks where Latin-1 has
    control characters, and so it is what programs mean that say Latin-1 (WHATWG, Encoding Standard, section 4.2).
    """
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        before = value[: error.start]
        if error.reason == "unexpected end of data" and not before.isascii():  # cut off within a character
            return before.decode("utf-8")
        return value.decode("cp1252", "ignore")  # five of its bytes mean nothing


def _clean(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    texts = [value] if isinstance(value, str) else value[: 10 * _MAX_KEYWORDS]
    texts = list(dict.fromkeys(text for text in map(_clean_text, texts) if text))[:_MAX_KEYWORDS]
    return texts if name == "keywords" else ", ".join(texts)[:_MAX_TEXT]


def _clean_text(text: str) -> str:
    lines = text[: 2 * _MAX_TEXT].replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("", lines).strip()[:_MAX_TEXT].rstrip()
