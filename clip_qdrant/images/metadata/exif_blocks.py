"""The EXIF data of an image, read from its bytes: tag numbers to values. Nonsense is left out, never an error.

The bytes are read here and not by Pillow, which warns of odd tags: warnings belong to the whole process, where they may
be errors, and no thread can silence its own.
"""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from clip_qdrant.images.metadata import exif_tags as tags

__all__ = ["Exif", "read_exif"]

# Types of TIFF 6.0 as `struct` has them; bytes, text, and undefined ones are taken as they are.
_BYTES, _TEXT, _UNDEFINED, _UTF8 = 1, 2, 7, 129  # the last since Exif 3.0
_TYPES = {1: "s", 2: "s", 3: "H", 4: "L", 5: "LL", 6: "b", 7: "s", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d", 13: "L"}
_TYPES[_UTF8] = "s"
_MOST_NUMBERS = 4  # no tag that is read has more than three
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


@dataclass(frozen=True, slots=True)
class Exif:
    """The blocks of EXIF data: tag numbers to values, bytes, text, a number or a tuple of numbers."""

    main: Mapping[int, Any]
    photo: Mapping[int, Any]
    gps: Mapping[int, Any]

    @property
    def orientation(self) -> Any:
        """1 to 8 in a good file; anything else means upright."""
        value = self.main.get(tags.ORIENTATION)
        return value[0] if isinstance(value, tuple) and value else value


def read_exif(image: Image.Image, block: bytes | None) -> Exif:
    """The EXIF data of an image, without those blocks and tags that are broken or missing.

    `block` are its bytes; None where only Pillow has it. What a caller may have changed in Pillow's goes first.
    """
    try:
        if block is None or image._exif is not None:
            return _read_from_pillow(image.getexif())
        return _read_bytes(block, image.info.get("xmp"))
    except Exception:  # noqa: BLE001  Pillow raises anything here, struct.error and SyntaxError included
        return Exif({}, {}, {})


def _read_from_pillow(main: Image.Exif) -> Exif:
    blocks: list[Mapping[int, Any]] = [_pick_values(main, tags.MAIN_TAGS)]
    for ifd, numbers in ((tags.PHOTO_IFD, tags.PHOTO_TAGS), (tags.GPS_IFD, tags.GPS_TAGS)):
        try:
            blocks.append(_pick_values(main.get_ifd(ifd), numbers))
        except Exception:  # noqa: BLE001  as above: broken EXIF is no reason to refuse a picture
            blocks.append({})
    return Exif(*blocks)


def _pick_values(block: Mapping[int, Any], numbers: frozenset[int]) -> dict[int, Any]:
    """Some tags of a block of Pillow, which decodes a value when it is asked for it."""
    values = {}
    for tag in numbers:
        with contextlib.suppress(Exception):
            values[tag] = block[tag]
    return values


def _read_bytes(data: bytes, packet: Any) -> Exif:
    """The blocks in a TIFF header and what hangs from it; the orientation may be in a packet of XMP instead."""
    data = re.sub(rb"^(Exif\0\0){1,2}", b"", data)
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    first = struct.unpack_from(order + "L", data, 4)[0] if order and len(data) >= 8 else None
    main = _read_directory(data, order, first, tags.MAIN_TAGS)
    if tags.ORIENTATION not in main and isinstance(packet, bytes) and (said := _XMP_ORIENTATION.search(packet)):
        main[tags.ORIENTATION] = int(said[1])
    photo = _read_directory(data, order, main.get(tags.PHOTO_IFD), tags.PHOTO_TAGS)
    gps = _read_directory(data, order, main.get(tags.GPS_IFD), tags.GPS_TAGS)
    return Exif(main, photo, gps)


def _read_directory(data: bytes, order: str, at: Any, numbers: frozenset[int]) -> dict[int, Any]:
    """Some tags of the directory at an offset, up to where it ends early (TIFF 6.0, section 2)."""
    found: dict[int, Any] = {}
    if not isinstance(at, int):
        return found
    with contextlib.suppress(struct.error):
        (entries,) = struct.unpack_from(order + "H", data, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHL", data, entry)
            if tag not in numbers or tag in found or kind not in _TYPES:
                continue
            size = count * struct.calcsize(order + _TYPES[kind])
            start = entry + 8 if size <= 4 else struct.unpack_from(order + "L", data, entry + 8)[0]
            if 0 < size <= len(data) - start:
                found[tag] = _read_value(data[start : start + size], order, kind)
    return found


def _read_value(raw: bytes, order: str, kind: int) -> Any:
    """Bytes, the text in latin-1, a number, or a tuple of the first numbers; a rational of nothing is NaN."""
    if kind in (_BYTES, _UNDEFINED, _UTF8):
        return raw
    if kind == _TEXT:
        return raw.removesuffix(b"\0").decode("latin-1")
    size = struct.calcsize(order + _TYPES[kind])
    parts = list(struct.iter_unpack(order + _TYPES[kind], raw[: _MOST_NUMBERS * size]))
    numbers = tuple(part[0] if len(part) == 1 else part[0] / part[1] if part[1] else math.nan for part in parts)
    return numbers[0] if len(numbers) == 1 else numbers
