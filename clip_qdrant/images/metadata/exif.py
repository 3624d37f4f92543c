"""What the EXIF data of a photo says: when and where it was taken, and with what. Nonsense is ignored, never an error.

Source: CIPA DC-008 (Exif 3.0). Dates are `DateTimeOriginal` with `OffsetTimeOriginal`, places the GPS block. The XP…
tags are those that Windows writes, in UTF-16.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from clip_qdrant.fields.dates import is_plausible_photo_date
from clip_qdrant.fields.types import Location
from clip_qdrant.images.metadata import exif_tags as tags
from clip_qdrant.images.metadata.exif_blocks import Exif

__all__ = ["read_fields", "read_location", "read_taken_at"]

_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)|Z")
_OVER_65534 = 65535  # what 16 bits of sensitivity say when there is more
# What cameras write by themselves where their owner's words belong.
_NO_DESCRIPTION = re.compile(r".*digital camera|sony dsc|exif[_ ]jpeg.*|dcim|untitled|default", re.IGNORECASE)


def read_taken_at(photo: Mapping[int, Any]) -> datetime | None:
    """The moment in the Exif block, without a zone where the camera gave none; None if it is missing or nonsense."""
    text = _ascii(photo.get(tags.DATE_TIME_ORIGINAL))
    try:
        moment = datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    if not is_plausible_photo_date(moment):
        return None
    offset = _OFFSET.fullmatch(_ascii(photo.get(tags.OFFSET_TIME_ORIGINAL)))
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
    lat = _degrees(gps.get(tags.LAT), gps.get(tags.LAT_REF), "N", "S", 90)
    lon = _degrees(gps.get(tags.LON), gps.get(tags.LON_REF), "E", "W", 180)
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None
    return Location(lat=lat, lon=lon)


def read_fields(exif: Exif) -> dict[str, Any]:
    """The fields of TAG_FIELDS in EXIF data, as they stand there; numbers that cannot be are None."""
    main, photo, gps = exif.main, exif.photo, exif.gps
    description = _text(main.get(tags.DESCRIPTION))
    return {
        "camera": _camera(_text(main.get(tags.MAKE)), _text(main.get(tags.MODEL))),
        "lens": _text(photo.get(tags.LENS_MODEL)),
        "exposure_time": _number(photo.get(tags.EXPOSURE_TIME), 1e-9, 1e6),
        "f_number": _number(photo.get(tags.F_NUMBER), 0.1, 1000),
        "iso": _sensitivity(photo),
        "focal_length": _number(photo.get(tags.FOCAL_LENGTH), 0.1, 1e5),
        "altitude": _altitude(gps),
        "software": _text(main.get(tags.SOFTWARE)),
        "title": _utf16(main.get(tags.XP_TITLE)),
        "keywords": _utf16(main.get(tags.XP_KEYWORDS)).split(";"),
        "description": "" if _NO_DESCRIPTION.fullmatch(description) else description,
        "creator": _text(main.get(tags.ARTIST)),
        "copyright": _text(main.get(tags.COPYRIGHT)),
    }


def _camera(make: str, model: str) -> str:
    """Make and model, the make not twice: NIKON CORPORATION and NIKON D850 are a NIKON D850."""
    maker = make.split(" ")[0]
    return model if maker and model.lower().startswith(maker.lower()) else f"{make} {model}".strip()


def _sensitivity(photo: Mapping[int, Any]) -> int | None:
    iso = _number(photo.get(tags.SENSITIVITY), 1, 1e7)
    if iso == _OVER_65534:
        iso = _number(photo.get(tags.EXPOSURE_INDEX), 1, 1e7)
    return None if iso is None else round(iso)


def _altitude(gps: Mapping[int, Any]) -> float | None:
    """Metres over the sea, negative below it."""
    metres = _number(gps.get(tags.ALTITUDE), 0, 1e6)
    below = gps.get(tags.ALTITUDE_REF) in (1, 3, b"\1", b"\3")
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
