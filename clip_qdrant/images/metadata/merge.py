"""What an image file says of itself, in EXIF, IPTC and XMP, as metadata fields of fixed types.

Where several say it, XMP wins over IPTC and IPTC over EXIF: editors keep XMP current. The moment is EXIF's first, which
the camera wrote. All of it is a stranger's text: what is odd is left out, never an error, and nothing is long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import Image

from clip_qdrant.fields.types import FieldType, Location
from clip_qdrant.images.metadata import exif, iptc, xmp
from clip_qdrant.images.metadata.exif_blocks import read_exif

__all__ = ["TAG_FIELDS", "FileTags", "read_tags"]

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


def read_tags(image: Image.Image) -> FileTags:
    """What the file of an image says of itself. Call it after the pixels are read: a PNG may have tags behind them."""
    data = read_exif(image)
    packet = image.info.get("xmp")
    block = iptc.find_block(image)
    from_xmp = xmp.read_fields(packet) if packet else {}
    from_iptc = iptc.read_fields(block) if block else {}
    from_exif = exif.read_fields(data) if data.main else {}  # the other blocks hang from this one
    fields = {}
    for name in TAG_FIELDS if from_xmp or from_iptc or from_exif else ():
        for source in (from_xmp, from_iptc, from_exif):
            value = _clean(name, source.get(name))
            if value not in (None, "", []):
                fields[name] = value
                break
    taken_at = exif.read_taken_at(data.photo) or from_xmp.get("taken_at") or from_iptc.get("taken_at")
    return FileTags(fields, taken_at, exif.read_location(data.gps), data.orientation)


def _clean(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    texts = [value] if isinstance(value, str) else value[: 10 * _MAX_KEYWORDS]
    texts = list(dict.fromkeys(text for text in map(_clean_text, texts) if text))[:_MAX_KEYWORDS]
    return texts if name == "keywords" else ", ".join(texts)[:_MAX_TEXT]


def _clean_text(text: str) -> str:
    lines = text[: 2 * _MAX_TEXT].replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("", lines).strip()[:_MAX_TEXT].rstrip()
