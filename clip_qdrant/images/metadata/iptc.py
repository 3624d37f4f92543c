"""What the IPTC block of a file says: title, keywords, description, creator, copyright, and when it was taken.

Source: IPTC-NAA Information Interchange Model 4.2, the application record (2) and the character set of 1:90.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any

from clip_qdrant.images.metadata.dates import PhotoDates, parse_photo_date
from clip_qdrant.images.metadata.tag_fields import decode_text

__all__ = ["read_fields"]

_MAX_DATASETS = 2000
_CHARACTER_SET = (1, 90)
_TITLE, _KEYWORD, _DATE, _TIME = (2, 5), (2, 25), (2, 55), (2, 60)
_DIGITAL_DATE, _DIGITAL_TIME = (2, 62), (2, 63)
_BYLINE, _HEADLINE, _COPYRIGHT, _CAPTION = (2, 80), (2, 105), (2, 116), (2, 120)
_UTF8 = b"\x1b%G"


def read_fields(block: bytes) -> dict[str, Any]:
    """The fields of TAG_FIELDS in an IPTC block, as they stand there, and `dates`, which are PhotoDates."""
    said: dict[tuple[int, int], list[bytes]] = {}
    for dataset, value in itertools.islice(_datasets(block), _MAX_DATASETS):
        said.setdefault(dataset, []).append(value)
    utf8 = said.get(_CHARACTER_SET, [b""])[0] == _UTF8

    def texts(dataset: tuple[int, int]) -> list[str]:
        return [_decode(value, utf8) for value in said.get(dataset, ())]

    def text(dataset: tuple[int, int]) -> str:
        return next(iter(texts(dataset)), "")

    return {
        "title": text(_TITLE) or text(_HEADLINE),
        "keywords": texts(_KEYWORD),
        "description": text(_CAPTION),
        "creator": texts(_BYLINE),
        "copyright": text(_COPYRIGHT),
        "dates": PhotoDates(
            taken=parse_photo_date(f"{text(_DATE)} {text(_TIME)}"),
            digitized=parse_photo_date(f"{text(_DIGITAL_DATE)} {text(_DIGITAL_TIME)}"),
        ),
    }


def _datasets(block: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    at = 0
    while at + 5 <= len(block) and block[at] == 0x1C:
        record, number, size = struct.unpack_from(">BBH", block, at + 1)
        at += 5
        if size & 0x8000:  # then these are the bytes of the size
            width = size & 0x7FFF
            size, at = int.from_bytes(block[at : at + min(width, 8)], "big"), at + width
        yield (record, number), block[at : at + size]
        at += size


def _decode(value: bytes, utf8: bool) -> str:
    if utf8:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":  # a field has a limit in bytes, and may end within a character
                return value[: error.start].decode("utf-8")
    return decode_text(value)  # many writers of UTF-8 forget to say so, others say so of something else
