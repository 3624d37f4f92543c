"""What the EXIF data of a photo says: when and where it was taken, and with what. Nonsense is ignored, never an error.

Source: CIPA DC-008 (Exif 3.0). Dates are `DateTimeOriginal` with `OffsetTimeOriginal`, places the GPS block. The XP…
tags are those that Windows writes, in UTF-16.

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
from datetime import datetime, timedelta, timezone
from typing import Any

from PIL import Image

from clip_qdrant.fields.dates import is_plausible_photo_date
from clip_qdrant.fields.types import Location

__all__ = ["Exif", "read_exif", "read_fields", "read_location", "read_taken_at"]

_PHOTO_IFD, _GPS_IFD = 0x8769, 0x8825
_ORIENTATION = 0x0112
_DESCRIPTION, _MAKE, _MODEL, _SOFTWARE, _ARTIST, _COPYRIGHT = 0x010E, 0x010F, 0x0110, 0x0131, 0x013B, 0x8298
_XP_TITLE, _XP_KEYWORDS = 0x9C9B, 0x9C9E
_DATE_TIME_ORIGINAL, _OFFSET_TIME_ORIGINAL = 0x9003, 0x9011
_EXPOSURE_TIME, _F_NUMBER, _FOCAL_LENGTH, _LENS_MODEL = 0x829A, 0x829D, 0x920A, 0xA434
_SENSITIVITY, _EXPOSURE_INDEX = 0x8827, 0x8832
_LAT_REF, _LAT, _LON_REF, _LON, _ALTITUDE_REF, _ALTITUDE = 1, 2, 3, 4, 5, 6
_MAIN_TAGS = frozenset(
    (_PHOTO_IFD, _GPS_IFD, _ORIENTATION, _DESCRIPTION, _MAKE, _MODEL, _SOFTWARE, _ARTIST, _COPYRIGHT, _XP_TITLE)
) | {_XP_KEYWORDS}
_PHOTO_TAGS = frozenset(
    (_DATE_TIME_ORIGINAL, _OFFSET_TIME_ORIGINAL, _EXPOSURE_TIME, _F_NUMBER, _FOCAL_LENGTH, _LENS_MODEL, _SENSITIVITY)
) | {_EXPOSURE_INDEX}
_GPS_TAGS = frozenset((_LAT_REF, _LAT, _LON_REF, _LON, _ALTITUDE_REF, _ALTITUDE))
# Types of TIFF 6.0 as `struct` has them; bytes, text, and undefined ones are taken as they are.
_BYTES, _TEXT, _UNDEFINED = 1, 2, 7
_TYPES = {1: "s", 2: "s", 3: "H", 4: "L", 5: "LL", 6: "b", 7: "s", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d", 13: "L"}
_MOST_NUMBERS = 4  # no tag that is read has more than three
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)|Z")
_OVER_65534 = 65535  # what 16 bits of sensitivity say when there is more
# What cameras write by themselves where their owner's words belong.
_NO_DESCRIPTION = re.compile(r".*digital camera|sony dsc|exif[_ ]jpeg.*|dcim|untitled|default", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Exif:
    """The blocks of EXIF data: tag numbers to values, bytes, text, a number or a tuple of numbers."""

    main: Mapping[int, Any]
    photo: Mapping[int, Any]
    gps: Mapping[int, Any]

    @property
    def orientation(self) -> Any:
        """1 to 8 in a good file; anything else means upright."""
        value = self.main.get(_ORIENTATION)
        return value[0] if isinstance(value, tuple) and value else value


def read_exif(image: Image.Image) -> Exif:
    """The EXIF data of an image; without those blocks and tags that are broken or missing."""
    try:
        block = _block(image)
        return _from_pillow(image.getexif()) if block is None else _from_bytes(block, image.info.get("xmp"))
    except Exception:  # noqa: BLE001  Pillow raises anything here, struct.error and SyntaxError included
        return Exif({}, {}, {})


def _block(image: Image.Image) -> bytes | None:
    """The EXIF data in bytes; None where only Pillow has it: of a TIFF, or perhaps changed by a caller."""
    if image._exif is not None:
        return None
    block = image.info.get("exif")
    profile = image.info.get("Raw profile type exif")  # in a PNG by ImageMagick: three lines, and hex digits
    if block is None and isinstance(profile, str):
        return bytes.fromhex("".join(profile.split("\n")[3:]))
    return block if isinstance(block, bytes) else None


def _from_pillow(main: Image.Exif) -> Exif:
    blocks: list[Mapping[int, Any]] = [_values(main, _MAIN_TAGS)]
    for ifd, tags in ((_PHOTO_IFD, _PHOTO_TAGS), (_GPS_IFD, _GPS_TAGS)):
        try:
            blocks.append(_values(main.get_ifd(ifd), tags))
        except Exception:  # noqa: BLE001  as above: broken EXIF is no reason to refuse a picture
            blocks.append({})
    return Exif(*blocks)


def _values(block: Mapping[int, Any], tags: frozenset[int]) -> dict[int, Any]:
    """Some tags of a block of Pillow, which decodes a value when it is asked for it."""
    values = {}
    for tag in tags:
        with contextlib.suppress(Exception):
            values[tag] = block[tag]
    return values


def _from_bytes(data: bytes, packet: Any) -> Exif:
    """The blocks in a TIFF header and what hangs from it; the orientation may be in a packet of XMP instead."""
    data = re.sub(rb"^(Exif\0\0){1,2}", b"", data)
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
    first = struct.unpack_from(order + "L", data, 4)[0] if order and len(data) >= 8 else None
    main = _directory(data, order, first, _MAIN_TAGS)
    if _ORIENTATION not in main and isinstance(packet, bytes) and (said := _XMP_ORIENTATION.search(packet)):
        main[_ORIENTATION] = int(said[1])
    photo = _directory(data, order, main.get(_PHOTO_IFD), _PHOTO_TAGS)
    gps = _directory(data, order, main.get(_GPS_IFD), _GPS_TAGS)
    return Exif(main, photo, gps)


def _directory(data: bytes, order: str, at: Any, tags: frozenset[int]) -> dict[int, Any]:
    """Some tags of the directory at an offset, up to where it ends early (TIFF 6.0, section 2)."""
    found: dict[int, Any] = {}
    if not isinstance(at, int):
        return found
    with contextlib.suppress(struct.error):
        (entries,) = struct.unpack_from(order + "H", data, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHL", data, entry)
            if tag not in tags or tag in found or kind not in _TYPES:
                continue
            size = count * struct.calcsize(order + _TYPES[kind])
            start = entry + 8 if size <= 4 else struct.unpack_from(order + "L", data, entry + 8)[0]
            if 0 < size <= len(data) - start:
                found[tag] = _value(data[start : start + size], order, kind)
    return found


def _value(raw: bytes, order: str, kind: int) -> Any:
    """Bytes, the text in latin-1, a number, or a tuple of the first numbers; a rational of nothing is NaN."""
    if kind in (_BYTES, _UNDEFINED):
        return raw
    if kind == _TEXT:
        return raw.removesuffix(b"\0").decode("latin-1")
    size = struct.calcsize(order + _TYPES[kind])
    parts = list(struct.iter_unpack(order + _TYPES[kind], raw[: _MOST_NUMBERS * size]))
    numbers = tuple(part[0] if len(part) == 1 else part[0] / part[1] if part[1] else math.nan for part in parts)
    return numbers[0] if len(numbers) == 1 else numbers


def read_taken_at(photo: Mapping[int, Any]) -> datetime | None:
    """The moment in the Exif block, without a zone where the camera gave none; None if it is missing or nonsense."""
    text = _ascii(photo.get(_DATE_TIME_ORIGINAL))
    try:
        moment = datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    if not is_plausible_photo_date(moment):
        return None
    offset = _OFFSET.fullmatch(_ascii(photo.get(_OFFSET_TIME_ORIGINAL)))
    if not offset:
        return moment
    if offset[0] == "Z":
        return moment.replace(tzinfo=timezone.utc)
    distance = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
    if distance > timedelta(hours=14):  # no zone of the earth is further from UTC
        return moment
    return moment.replace(tzinfo=timezone(-distance if offset[1] == "-" else distance))


def read_location(gps: Mapping[int, Any]) -> Location | None:
    """The place in the GPS block; None if it is missing, out of range, or the 0, 0 of a receiver without a fix."""
    lat = _degrees(gps.get(_LAT), gps.get(_LAT_REF), "N", "S", 90)
    lon = _degrees(gps.get(_LON), gps.get(_LON_REF), "E", "W", 180)
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None
    return Location(lat=lat, lon=lon)


def read_fields(exif: Exif) -> dict[str, Any]:
    """The fields of `metadata.merge` in EXIF data, as they stand there; numbers that cannot be are None."""
    main, photo, gps = exif.main, exif.photo, exif.gps
    description = _text(main.get(_DESCRIPTION))
    return {
        "camera": _camera(_text(main.get(_MAKE)), _text(main.get(_MODEL))),
        "lens": _text(photo.get(_LENS_MODEL)),
        "exposure_time": _number(photo.get(_EXPOSURE_TIME), 1e-9, 1e6),
        "f_number": _number(photo.get(_F_NUMBER), 0.1, 1000),
        "iso": _sensitivity(photo),
        "focal_length": _number(photo.get(_FOCAL_LENGTH), 0.1, 1e5),
        "altitude": _altitude(gps),
        "software": _text(main.get(_SOFTWARE)),
        "title": _utf16(main.get(_XP_TITLE)),
        "keywords": _utf16(main.get(_XP_KEYWORDS)).split(";"),
        "description": "" if _NO_DESCRIPTION.fullmatch(description) else description,
        "creator": _text(main.get(_ARTIST)),
        "copyright": _text(main.get(_COPYRIGHT)),
    }


def _camera(make: str, model: str) -> str:
    """Make and model, the make not twice: NIKON CORPORATION and NIKON D850 are a NIKON D850."""
    maker = make.split(" ")[0]
    return model if maker and model.lower().startswith(maker.lower()) else f"{make} {model}".strip()


def _sensitivity(photo: Mapping[int, Any]) -> int | None:
    iso = _number(photo.get(_SENSITIVITY), 1, 1e7)
    if iso == _OVER_65534:
        iso = _number(photo.get(_EXPOSURE_INDEX), 1, 1e7)
    return None if iso is None else round(iso)


def _altitude(gps: Mapping[int, Any]) -> float | None:
    """Metres over the sea, negative below it."""
    metres = _number(gps.get(_ALTITUDE), 0, 1e6)
    below = gps.get(_ALTITUDE_REF) in (1, 3, b"\1", b"\3")
    return None if metres is None else -metres if below and metres else metres


def _number(value: Any, low: float, high: float) -> float | None:
    """A number of 6 significant digits, if it lies between the bounds."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return float(f"{number:.6g}") if low <= number <= high else None  # false for NaN


def _degrees(parts: Any, ref: Any, positive: str, negative: str, limit: int) -> float | None:
    """Degrees from three rationals and a hemisphere letter."""
    sign = {positive: 1, negative: -1}.get(_ascii(ref).upper())
    if sign is None or not isinstance(parts, (tuple, list)) or not 1 <= len(parts) <= 3:
        return None
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        return None
    degrees = sum(number / 60**power for power, number in enumerate(numbers))
    return round(sign * degrees, 7) if degrees <= limit else None  # 7 decimals are a centimetre


def _ascii(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return value.strip("\0 ") if isinstance(value, str) else ""


def _text(value: Any) -> str:
    """The words of a tag: ASCII by the standard, UTF-8 in practice; they come read as latin-1."""
    if isinstance(value, str):
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError:
            return str(value)
    if not isinstance(value, bytes):
        return ""
    words: bytes = next((part for part in value.split(b"\0", 2) if part.strip()), b"")  # a copyright may have two parts
    try:
        return words.decode("utf-8").strip()
    except UnicodeDecodeError:
        return words.decode("latin-1").strip()


def _utf16(value: Any) -> str:
    if isinstance(value, tuple) and all(isinstance(part, int) and 0 <= part < 256 for part in value):
        value = bytes(value)
    return value.decode("utf-16-le", "ignore").strip("\0 ") if isinstance(value, bytes) else ""
