"""Dates and moments: read from ISO 8601 text, written as such, and told apart from a camera's nonsense.

A datetime without a zone is what a clock showed somewhere; it gets no zone here.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

__all__ = ["is_plausible_photo_date", "join_dates", "parse_datetime", "parse_period"]

_DATETIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)? ?(?:([Zz])|([+-])(\d\d):?(\d\d)?)?)?",
    re.ASCII,
)
_PARTIAL = re.compile(r"\d{4}(-\d\d)?", re.ASCII)
_SECONDS = re.compile(r"[Tt ]\d\d:\d\d:")
_FIRST_PHOTO = 1826
_ZONE_STEP, _FURTHEST_ZONE = timedelta(minutes=15), timedelta(hours=14)
_SAME_MOMENT = timedelta(seconds=2)  # cameras and archives round
_LAST_PHOTO = 2200


def parse_datetime(text: str) -> datetime | None:
    """The date and time that ISO 8601 text means, with a zone where it names one; None if `text` is neither.

    Digits below the microsecond are cut off, as Qdrant does.
    """
    match = _DATETIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zulu, sign, off_h, off_m = match.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    offset = timedelta(hours=int(off_h or 0), minutes=int(off_m or 0))
    try:
        zone = timezone(-offset if sign == "-" else offset) if sign or zulu else None
        return datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micros, zone
        )
    except ValueError:
        return None


def parse_period(text: str) -> tuple[datetime, datetime | None] | None:
    """The period that ISO 8601 text names: `2024` a year, `2024-05` a month, `2024-05-01` a day, a time its second.

    Returns its start and its end (exclusive; None where the calendar ends first), both with a zone if the text names
    one, or None if `text` is no such text.
    """
    match = _PARTIAL.fullmatch(text)
    start = parse_datetime(text + "-01-01"[3 * (match[1] is not None) :] if match else text)
    if start is None:
        return None
    try:
        if match:
            months = start.year * 12 + start.month + (0 if match[1] else 11)
            return start, start.replace(year=months // 12, month=months % 12 + 1)
        if ":" not in text:
            length = timedelta(days=1)
        elif "." in text:
            length = timedelta(microseconds=1)
        else:
            length = timedelta(seconds=1) if _SECONDS.search(text) else timedelta(minutes=1)
        return start, start + length
    except (OverflowError, ValueError):
        return start, None


def join_dates(said: datetime | None, own: datetime | None) -> datetime | None:
    """The date that is said of a photo, or else its file's own.

    If a moment in UTC is said, as Google Takeout does, and the file has the time on the clock of the same moment, their
    distance is the zone, and the date is what the clock showed in that zone.
    """
    if said is None or own is None:
        return said or own
    if said.utcoffset() != timedelta(0) or said == own:
        return own if said == own else said
    if own.tzinfo is not None:
        return said
    distance = own - said.replace(tzinfo=None)
    zone = round(distance / _ZONE_STEP) * _ZONE_STEP
    if abs(zone) > _FURTHEST_ZONE or abs(distance - zone) > _SAME_MOMENT:
        return said
    return own.replace(tzinfo=timezone(zone))


def is_plausible_photo_date(moment: datetime) -> bool:
    """Whether a photo may be from then."""
    return _FIRST_PHOTO <= moment.year <= _LAST_PHOTO
