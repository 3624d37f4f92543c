"""The dates in image files: read as cameras and editors write them, and the best of several chosen.

EXIF writes `2021:07:04 18:30:00`, XMP ISO 8601, IPTC `20210704`, and programs mix them: other separators, no seconds, a
zone within the value. A date without a zone stays without one: it is the wall clock where the picture was taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from clip_qdrant.fields.dates import is_plausible_photo_date

__all__ = ["PhotoDate", "PhotoDates", "choose_date", "parse_photo_date", "parse_zone"]

_DAY = re.compile(r"(\d{4})([:/.\-]?)(\d\d)\2(\d\d)(?!\d)[ Tt_]*", re.ASCII)
_COMPACT = re.compile(r"(\d{4})()(\d\d)(\d\d)(?=\d{4})", re.ASCII)  # 20210704183000
_TIME = re.compile(r"(\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?", re.ASCII)
_ZONE = re.compile(r"([+-])(\d{1,2})(?::?([0-5]\d))?|[Zz]|UTC|GMT", re.ASCII)
_FURTHEST = timedelta(hours=14)  # no zone of the earth is further from UTC


@dataclass(frozen=True, slots=True)
class PhotoDate:
    """A moment, without a zone where none is named; `timed` is false for a bare day, whose moment is its midnight."""

    moment: datetime
    timed: bool


@dataclass(frozen=True, slots=True)
class PhotoDates:
    """The dates in one block of a file, by what they mean, each None where it is missing or nonsense."""

    taken: PhotoDate | None = None
    digitized: PhotoDate | None = None
    changed: PhotoDate | None = None  # which editors may have moved


def choose_date(sources: Sequence[PhotoDates]) -> datetime | None:
    """The moment of a photo, from blocks of which an earlier one is trusted more.

    When it was taken goes over when it was digitized, and that over when it was changed. With a time of day wins over a
    bare day; the time may come from a date that means something else only if that is on the same day: a scan of today
    says nothing of the hour of a photo from 1969.
    """
    day = None
    ranked = [(source.taken, source.digitized, source.changed) for source in sources]
    for rank in range(3):
        dates = [date for source in ranked if (date := source[rank]) is not None]
        for date in dates:
            if date.timed and (day is None or date.moment.date() == day.date()):
                return date.moment
        if day is None and dates:
            day = dates[0].moment
    return day


def parse_photo_date(text: str, *, fraction: str = "", zone: str = "") -> PhotoDate | None:
    """The date that a text begins with; None where it names no day, or one on which there were no photos.

    `fraction` are the digits below the second, and `zone` the distance from UTC, where they stand apart. What of the
    time cannot be is left out, the day stays.
    """
    text = text.strip("\0 \t\r\n")
    match = _DAY.match(text) or _COMPACT.match(text)
    if match is None:
        return None
    try:
        day = datetime(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None
    if not is_plausible_photo_date(day):
        return None
    time = _TIME.match(text, match.end())
    if time is None:
        return PhotoDate(day, timed=False)
    rest = text[time.end() :].strip()
    if rest[:1].isalpha() and parse_zone(rest) is None:  # PM, say
        return PhotoDate(day, timed=False)
    digits = (time[4] or fraction.strip("\0 "))[:6]
    micros = int(digits.ljust(6, "0")) if digits.isascii() and digits.isdigit() else 0
    try:
        moment = day.replace(hour=int(time[1]), minute=int(time[2]), second=int(time[3] or 0), microsecond=micros)
    except ValueError:
        return PhotoDate(day, timed=False)
    return PhotoDate(moment.replace(tzinfo=parse_zone(rest) or parse_zone(zone)), timed=True)


def parse_zone(text: str) -> timezone | None:
    """The zone that a text names as a distance from UTC; None where it is missing or nonsense."""
    match = _ZONE.fullmatch(text.strip("\0 "))
    if match is None:
        return None
    distance = timedelta(hours=int(match[2] or 0), minutes=int(match[3] or 0))
    if distance > _FURTHEST:
        return None
    return timezone(-distance if match[1] == "-" else distance) if distance else UTC
