"""Month, day, weekday and hour of when a photo was taken, by the wall clock: what `taken_at.month = 12` asks for.

They are kept as two numbers, so that one payload index serves them all:

    taken_at: 2024-12-24T18:30:00-05:00, a Tuesday      calendar.taken_at: [1224, 10218]

1224 is month and day; 10218 is 10000, the weekday (1 is Monday, as in ISO 8601) times 100, and the hour. A part is a
range of one of the two, or a few ranges: docs/decisions/0016-words-and-calendar.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from clip_qdrant.fields.dates import parse_datetime
from clip_qdrant.fields.wall_clock import WALL_CLOCK

__all__ = ["CALENDAR_KEY", "CALENDAR_PARTS", "CalendarPart", "find_calendar_part", "read_calendar"]

CALENDAR_KEY = "calendar.taken_at"  # the payload key
_FIELD = "taken_at"
_WEEKDAYS = 10_000
_MONTH_NAMES = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_WEEKDAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True, slots=True)
class CalendarPart:
    """One part of a date: its numbers from `first` to `last`, and what people call them."""

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()  # of the numbers from 1 on

    def read(self, value: object) -> int | None:
        """The number that a value means: 12, 'dec' and 'December' 12, of yearday '12-24' 1224; None for none."""
        if isinstance(value, int | float) and not isinstance(value, bool) and self.name != "yearday":
            return int(value) if value in range(self.first, self.last + 1) else None
        if not isinstance(value, str):
            return None
        if self.name == "yearday":
            day = parse_datetime(f"2024-{value}") if len(value) == 5 else None  # a leap year, which has all days
            return day.month * 100 + day.day if day else None
        lowered = value.lower()
        found = [i for i, name in enumerate(self.names, start=1) if lowered in (name, name[:3])]
        return found[0] if found else None

    def write(self, number: int) -> int | str:
        """The number as a filter takes it: '12-24' of a yearday."""
        return f"{number // 100:02}-{number % 100:02}" if self.name == "yearday" else number

    def codes(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of codes, ends included, of the numbers from `start` to `end`."""
        if self.name == "yearday":
            yield start, end
        elif self.name == "month":
            yield start * 100, end * 100 + 99
        elif self.name == "day":
            yield from ((month * 100 + start, month * 100 + end) for month in range(1, 13))
        elif self.name == "weekday":
            yield _WEEKDAYS + start * 100, _WEEKDAYS + end * 100 + 99
        else:
            yield from ((_WEEKDAYS + day * 100 + start, _WEEKDAYS + day * 100 + end) for day in range(1, 8))

    def decode(self, code: int) -> int | None:
        """The number of this part that a code has; None for a code of other parts."""
        of_week = code >= _WEEKDAYS
        if of_week != (self.name in ("weekday", "hour")):
            return None
        high, low = divmod(code % _WEEKDAYS, 100)
        return code if self.name == "yearday" else high if self.name in ("month", "weekday") else low


CALENDAR_PARTS: Mapping[str, CalendarPart] = {
    part.name: part
    for part in (
        CalendarPart("month", 1, 12, _MONTH_NAMES),
        CalendarPart("day", 1, 31),
        CalendarPart("yearday", 101, 1231),
        CalendarPart("weekday", 1, 7, _WEEKDAY_NAMES),
        CalendarPart("hour", 0, 23),
    )
}


def find_calendar_part(name: str) -> CalendarPart | None:
    """The part of a date that a field name asks for: `taken_at.month`; None if it is another name."""
    field, _, part = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    return CALENDAR_PARTS.get(part) if field == _FIELD else None


def read_calendar(payload: Mapping[str, object]) -> dict[str, list[int]]:
    """The codes of what the clock showed when the image of a payload was taken; {} where no date is known."""
    clocks = payload.get(WALL_CLOCK)
    shown = clocks.get(_FIELD) if isinstance(clocks, Mapping) else None
    moment: datetime | None = parse_datetime(shown) if isinstance(shown, str) else None
    if moment is None:
        return {}
    return {_FIELD: [moment.month * 100 + moment.day, _WEEKDAYS + moment.isoweekday() * 100 + moment.hour]}
