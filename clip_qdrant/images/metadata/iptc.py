"""What the IPTC block of a file says: title, keywords, description, creator, copyright, and when it was taken.

Source: IPTC-NAA Information Interchange Model 4.2, the application record (2) and the character set of 1:90.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from PIL import Image

from clip_qdrant.fields.dates import is_plausible_photo_date

__all__ = ["find_block", "read_fields"]

_MAX_DATASETS = 2000
_CHARACTER_SET = (1, 90)
_TITLE, _KEYWORD, _DATE, _TIME = (2, 5), (2, 25), (2, 55), (2, 60)
_BYLINE, _HEADLINE, _COPYRIGHT, _CAPTION = (2, 80), (2, 105), (2, 116), (2, 120)
_UTF8 = b"\x1b%G"
_PHOTOSHOP_IPTC, _TIFF_IPTC = 0x0404, 33723


def find_block(image: Image.Image) -> bytes:
    """The IPTC block of an open JPEG or TIFF, b"" where there is none."""
    photoshop = image.info.get("photoshop")
    if isinstance(photoshop, dict):
        block = photoshop.get(_PHOTOSHOP_IPTC)
    else:
        # The raw bytes: Photoshop declares them as 32-bit numbers, of which Pillow would give one, and warn.
        block = getattr(getattr(image, "tag_v2", None), "_tagdata", {}).get(_TIFF_IPTC)
    return block if isinstance(block, bytes) else b""


def read_fields(block: bytes) -> dict[str, Any]:
    """The fields of TAG_FIELDS in an IPTC block, as they stand there, and `taken_at`."""
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
        "taken_at": _moment(text(_DATE), text(_TIME)),
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
        return value.decode("utf-8", "ignore")  # a field has a limit in bytes, and may end within a character
    try:
        return value.decode("utf-8")  # many writers forget to say so, and no latin-1 text reads like it
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _moment(date: str, time: str) -> datetime | None:
    for text, form in ((date + time, "%Y%m%d%H%M%S%z"), (date + time[:6], "%Y%m%d%H%M%S"), (date, "%Y%m%d")):
        try:
            moment = datetime.strptime(text, form)
        except ValueError:
            continue
        return moment if is_plausible_photo_date(moment) else None
    return None
