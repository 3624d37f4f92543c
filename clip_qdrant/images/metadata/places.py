"""The places in image files: degrees from numbers or from text, with a hemisphere in a letter, a word or a sign."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from clip_qdrant.fields.types import Location

__all__ = ["make_location", "parse_degrees", "read_degrees"]

_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
# Numbers with what may stand between and behind them: 48,8,15 and 48° 8' 15" and 48 deg 8' 15.00".
_COORDINATE = re.compile(
    r"([+-]?)((?:\d+(?:\.\d+)?[\s,;:°'\"’”′″]*(?:deg)?[\s,;:°'\"’”′″]*){1,3})([A-Za-z ]*)", re.ASCII
)
_LONGEST = 64  # characters of a coordinate
_WORDS = {"N": ("N", "NORTH"), "S": ("S", "SOUTH"), "E": ("E", "EAST"), "W": ("W", "WEST")}


def make_location(lat: float | None, lon: float | None) -> Location | None:
    """A place of both; None if half of it is missing, or for the 0, 0 of a receiver without a fix."""
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None
    return Location(lat=lat, lon=lon)


def read_degrees(parts: Sequence[float], hemisphere: str, axis: str) -> float | None:
    """Degrees from degrees, minutes and seconds, of which the last may be missing; None if they cannot be.

    `hemisphere` is a letter or a word, and may be empty where a sign stands for it; `axis` is `NS` or `EW`.
    """
    if not 1 <= len(parts) <= 3 or not all(math.isfinite(part) for part in parts):
        return None
    named = next((letter for letter in axis if hemisphere.strip("\0 .").upper() in _WORDS[letter]), "")
    if hemisphere.strip("\0 .") and not named:
        return None
    first, *others = parts
    negative = math.copysign(1, first) < 0
    degrees = sum(part / 60**power for power, part in enumerate([abs(first), *others]))
    if any(part < 0 for part in others) or degrees > (90 if axis == "NS" else 180):
        return None
    if negative and named == axis[0] and degrees:
        return None
    return round(-degrees if negative or named == axis[1] else degrees, 7) or 0.0  # 7 decimals are a centimetre


def parse_degrees(text: str, axis: str, hemisphere: str = "") -> float | None:
    """Degrees from text: `48,8.25N` (XMP), `48.1375`, `-48.1375`, `48° 8' 15" N`; None if it is something else.

    `hemisphere` is a letter or a word that stands apart.
    """
    text = text.strip("\0 \t\r\n")
    match = _COORDINATE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    parts = [float(number) for number in _NUMBER.findall(match[2])]
    if any(part > 60 for part in parts[1:]):  # 48,1375: a comma for a point
        return None
    if match[1] == "-":
        parts[0] = -parts[0]
    return read_degrees(parts, match[3].strip() or hemisphere, axis)
