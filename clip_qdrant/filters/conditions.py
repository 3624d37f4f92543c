"""One test on one field -> a condition of qdrant_client.models: which operators a type has, and what each means there.

An array matches if any element does. `!=`, `not in` and `not` are true of images that lack the field.

A date without a zone is compared with what a clock showed where the value was taken, one with a zone with the moment
(`fields.wall_clock`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

from qdrant_client import models

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.calendar import CalendarPart
from clip_qdrant.fields.dates import parse_period
from clip_qdrant.fields.derived import index_keys
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.values import describe_value
from clip_qdrant.fields.wall_clock import wall_clock_key
from clip_qdrant.filters.calendar import build_calendar
from clip_qdrant.filters.geo import AREAS, build_within
from clip_qdrant.filters.language import Test
from clip_qdrant.filters.operands import check_number, check_order, check_text, unfit
from clip_qdrant.filters.words import build_words

__all__ = ["OPERATORS", "build_calendar_test", "build_test", "join_all", "join_any", "negate"]

_EQUALITY = ("=", "!=", "in", "not in")
_ORDER = ("<", "<=", ">", ">=", "between")
_PRESENCE = ("is null", "is not null", "exists")

OPERATORS: Mapping[FieldType, tuple[str, ...]] = {
    "keyword": (*_EQUALITY, "^=", "~", *_PRESENCE),
    "integer": (*_EQUALITY, *_ORDER, *_PRESENCE),
    "float": (*_EQUALITY, *_ORDER, *_PRESENCE),
    "datetime": (*_EQUALITY, *_ORDER, *_PRESENCE),
    "bool": ("=", "!=", *_PRESENCE),
    "geo": (*AREAS, *_PRESENCE),
    "text": ("~", *_PRESENCE),
}

# A Range holds floats of 64 bits: from here on they skip integers.
_EXACT = 2**53
_LAST_MOMENT = datetime.max.replace(tzinfo=UTC)

Refusal: TypeAlias = Callable[[str, int], FilterError]
_Period: TypeAlias = "tuple[datetime, datetime | None]"  # its start and end, both with a zone or without


def join_all(parts: Sequence[models.Condition]) -> models.Condition:
    """All of the conditions."""
    if len(parts) == 1:
        return parts[0]
    return models.Filter(must=list(parts))


def join_any(parts: Sequence[models.Condition]) -> models.Condition:
    """Any of the conditions."""
    if len(parts) == 1:
        return parts[0]
    return models.Filter(should=list(parts))


def negate(part: models.Condition) -> models.Condition:
    """Whatever the condition does not select."""
    if isinstance(part, models.Filter) and isinstance(part.must_not, list) and len(part.must_not) == 1:
        only = models.Filter(must_not=part.must_not)
        if part == only:
            return part.must_not[0]
    return models.Filter(must_not=[part])


def build_test(key: str, name: str, field_type: FieldType, test: Test, refusal: Refusal) -> models.Condition:
    """The condition for `test` on the payload key `key`; its operator is one of OPERATORS[field_type].

    `name` is what messages call the field; `refusal(problem, at)` makes the error for the value at `at`.
    """
    if test.operator in _PRESENCE:
        place = next(iter(index_keys(key, field_type)))
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=place))
        return empty if test.operator == "is null" else negate(empty)
    try:
        if field_type == "geo":
            return build_within(key, test.operator, test.values)
        if field_type == "text":
            return build_words(key, name, test.values[0])
        if test.operator in ("^=", "~"):
            return _part(key, name, test)
        if test.operator in _ORDER:
            return _range(key, name, field_type, test)
        equal = _equal(key, name, field_type, test)
    except FilterError as error:
        if error.operand is None:
            raise
        raise refusal(str(error), test.values_at[error.operand]) from error
    return negate(equal) if test.operator in ("!=", "not in") else equal


def build_calendar_test(part: CalendarPart, name: str, test: Test, refusal: Refusal) -> models.Condition:
    """The condition for `test` on a part of `taken_at`; its operator is one of CALENDAR_OPERATORS."""
    if test.operator in _PRESENCE:
        return build_test("taken_at", "taken_at", "datetime", test, refusal)
    try:
        found = build_calendar(part, name, test.operator, test.values)
    except FilterError as error:
        if error.operand is None:
            raise
        raise refusal(str(error), test.values_at[error.operand]) from error
    return negate(found) if test.operator in ("!=", "not in") else found


def _equal(key: str, name: str, field_type: FieldType, test: Test) -> models.Condition:
    if field_type == "float":
        # Match knows no floats
        numbers = [check_number(i, name, field_type, value) for i, value in enumerate(test.values)]
        return join_any([_field(key, range=models.Range(gte=number, lte=number)) for number in numbers])
    if field_type == "datetime":
        periods = [_period(i, name, value) for i, value in enumerate(test.values)]
        return join_any([_within_moments(key, [(">=", period), ("<=", period)]) for period in periods])
    wanted = [_matchable(i, name, field_type, value) for i, value in enumerate(test.values)]
    if test.operator in ("in", "not in"):
        return _field(key, match=models.MatchAny(any=wanted))
    return _field(key, match=models.MatchValue(value=wanted[0]))


def _matchable(index: int, name: str, field_type: FieldType, value: Any) -> Any:
    """A value to compare for equality with a keyword, integer or bool field."""
    if field_type == "integer":
        number = check_number(index, name, field_type, value)
        if number != int(number):
            raise unfit(index, f"{name} is an integer field and never equals {value}")
        return int(number)
    if field_type == "bool":
        if not isinstance(value, bool):
            raise unfit(index, f"{name} is a bool field: compare it with true or false, not {describe_value(value)}")
        return value
    if not isinstance(value, str):
        raise unfit(index, f"{name} is a keyword field: compare it with text in quotes, not {describe_value(value)}")
    return check_text(index, value)


def _part(key: str, name: str, test: Test) -> models.Condition:
    """The condition that a keyword begins with a text (^=), or has it anywhere (~)."""
    text = _matchable(0, name, "keyword", test.values[0])
    if not text:
        raise unfit(0, f"{test.operator} takes a text that is not empty; for any {name} write: {name} exists")
    if test.operator == "^=":
        return _field(key, match=models.MatchPrefix(prefix=text))
    return _field(key, match=models.MatchSubstring(substring=text))


def _range(key: str, name: str, field_type: FieldType, test: Test) -> models.Condition:
    operators = (">=", "<=") if test.operator == "between" else (test.operator,)
    if field_type == "datetime":
        periods = [_period(i, name, value) for i, value in enumerate(test.values)]
        if len({_has_zone(period) for period in periods}) > 1:
            raise unfit(1, "between takes two dates with a zone, or two without; give both a zone, such as Z")
        check_order(periods[0][0] > periods[-1][0])
        return _within_moments(key, list(zip(operators, periods, strict=True)))
    numbers = [check_number(i, name, field_type, value) for i, value in enumerate(test.values)]
    check_order(numbers[0] > numbers[-1])
    limits: dict[str, int | float] = {}
    for i, (operator, number) in enumerate(zip(operators, numbers, strict=True)):
        if field_type == "integer":
            if abs(number) >= _EXACT:
                raise unfit(i, f"{operator} is exact only below 2^53; compare {name} by = or in")
            operator, number = _whole(operator, number)
        limits[_BOUNDS[operator]] = number
    return _field(key, range=models.Range(**limits))


_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def _whole(operator: str, number: int | float) -> tuple[str, int | float]:
    """The same bound of integers without a fraction, which an integer index would cut off."""
    if number == int(number):
        return operator, number
    return ("<=", math.floor(number)) if operator in ("<", "<=") else (">=", math.ceil(number))


def _within_moments(key: str, bounds: Sequence[tuple[str, _Period]]) -> models.Condition:
    """The condition that the moments at a key, or what clocks showed then, are within all bounds."""
    limits = {side: at for operator, period in bounds for side, at in _moments(operator, period).items()}
    if not _has_zone(bounds[0][1]):  # wall clocks are stored without a zone, which Qdrant takes as UTC
        key, limits = wall_clock_key(key), {side: at.replace(tzinfo=UTC) for side, at in limits.items()}
    return _field(key, range=models.DatetimeRange(**limits))


def _has_zone(period: _Period) -> bool:
    return period[0].tzinfo is not None


def _moments(operator: str, period: _Period) -> dict[str, datetime]:
    """The bound that compares with a period as a whole: `<=` reaches to its end, `>` begins there."""
    start, end = period
    if operator in ("<", ">="):
        return {_BOUNDS[operator]: start}
    if end is None:  # the period reaches to the end of the calendar
        return {_BOUNDS[operator]: _LAST_MOMENT}
    return {"lt" if operator == "<=" else "gte": end}


def _period(index: int, name: str, value: Any) -> _Period:
    if isinstance(value, datetime):
        last = _LAST_MOMENT if value.tzinfo is not None else datetime.max
        return value, value + timedelta(microseconds=1) if value < last else None
    text = value.isoformat() if isinstance(value, date) else value
    period = parse_period(text) if isinstance(text, str) else None
    if period is None:
        quoted = f"; put the date in quotes: '{value}'" if type(value) is int and abs(value) < 10_000 else ""
        raise unfit(
            index,
            f"{name} is a datetime field: compare it with a date such as '2024', '2024-05', '2024-05-01' "
            f"or '2024-05-01T10:00:00Z', not {describe_value(value)}{quoted}",
        )
    return period


def _field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)
