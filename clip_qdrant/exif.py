"""When and where a photo was taken, from its EXIF data. What is nonsense there is ignored, never an error.

Source: CIPA DC-008 (Exif 3.0). Dates are `DateTimeOriginal` with `OffsetTimeOriginal`, places the GPS block.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from clip_qdrant.records import Location

__all__ = ["location", "taken_at"]

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
_DATE_TIME_ORIGINAL, _OFFSET_TIME_ORIGINAL = 0x9003, 0x9011
_LAT_REF, _LAT, _LON_REF, _LON = 1, 2, 3, 4
_OFFSET = re.compile(r"([+-])(\d\d):(\d\d)|Z")
_FIRST_PHOTO = 1826


def taken_at(exif: Mapping[int, Any]) -> datetime | None:
    """The moment in the Exif block, without a zone where the camera gave none; None if it is missing or nonsense."""
    text = _text(exif.get(_DATE_TIME_ORIGINAL))
    try:
        moment = datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    if not _FIRST_PHOTO <= moment.year <= 2200:
        return None
    offset = _OFFSET.fullmatch(_text(exif.get(_OFFSET_TIME_ORIGINAL)))
    if not offset:
        return moment
    if offset[0] == "Z":
        return moment.replace(tzinfo=timezone.utc)
    distance = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
    if distance > timedelta(hours=14):  # no zone of the earth is further from UTC
        return moment
    return moment.replace(tzinfo=timezone(-distance if offset[1] == "-" else distance))


def location(gps: Mapping[int, Any]) -> Location | None:
    """The place in the GPS block; None if it is missing, out of range, or the 0, 0 of a receiver without a fix."""
    lat = _degrees(gps.get(_LAT), gps.get(_LAT_REF), "N", "S", 90)
    lon = _degrees(gps.get(_LON), gps.get(_LON_REF), "E", "W", 180)
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None
    return Location(lat=lat, lon=lon)


def _degrees(parts: Any, ref: Any, positive: str, negative: str, limit: int) -> float | None:
    """Degrees from three rationals and a hemisphere letter."""
    sign = {positive: 1, negative: -1}.get(_text(ref).upper())
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


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return value.strip("\0 ") if isinstance(value, str) else ""
