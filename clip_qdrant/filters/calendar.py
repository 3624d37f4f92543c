"""Conditions on a part of `taken_at`: its month, day, weekday or hour by the wall clock (`fields.calendar`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import models

from clip_qdrant.fields.calendar import CALENDAR_KEY, CalendarPart
from clip_qdrant.fields.values import describe_value
from clip_qdrant.filters.operands import unfit

__all__ = ["CALENDAR_OPERATORS", "build_calendar"]

CALENDAR_OPERATORS = ("=", "!=", "in", "not in", "<", "<=", ">", ">=", "between", "is null", "is not null", "exists")


def build_calendar(part: CalendarPart, name: str, operator: str, values: Sequence[Any]) -> models.Condition:
    """The condition that a part of the date is what the operator (not one of its negations) says.

    `between` goes round: from month 11 to 2 is the winter, from hour 22 to 4 the night.
    """
    numbers = [_read(part, name, i, value) for i, value in enumerate(values)]
    spans = [(number, number) for number in numbers]
    if operator == "between":
        start, end = numbers
        spans = [(start, end)] if start <= end else [(start, part.last), (part.first, end)]
    elif operator in ("<", "<="):
        spans = [(part.first, numbers[0] - (operator == "<"))]
    elif operator in (">", ">="):
        spans = [(numbers[0] + (operator == ">"), part.last)]
    if any(start > end for start, end in spans):
        raise unfit(0, f"{name} is from {part.write(part.first)} to {part.write(part.last)}; none is {operator} that")
    codes = [code for start, end in spans for code in part.codes(start, end)]
    if all(start == end for start, end in codes):
        wanted = [start for start, _ in codes]
        return _field(match=models.MatchAny(any=wanted) if len(wanted) > 1 else models.MatchValue(value=wanted[0]))
    ranges: list[models.Condition] = [_field(range=models.Range(gte=start, lte=end)) for start, end in codes]
    return ranges[0] if len(ranges) == 1 else models.Filter(should=ranges)


def _read(part: CalendarPart, name: str, index: int, value: Any) -> int:
    number = part.read(value)
    if number is None:
        example = f" or text such as {part.names[-1][:3]!r}" if part.names else ""
        takes = (
            "a month and a day such as '12-24'"
            if part.name == "yearday"
            else f"a number from {part.first} to {part.last}{example}"
        )
        raise unfit(index, f"{name} takes {takes}, not {describe_value(value)}")
    return number


def _field(**condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=CALENDAR_KEY, **condition)
