"""One test on one field -> a condition of qdrant_client.models: which operators a type has, and what each means there.

An array matches if any element does. `!=`, `not in` and `not` are true of images that lack the field.

A date without a zone is compared with what a clock showed where the value was taken, one with a zone with the moment
(`fields.wall_clock`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any, TypeAlias

from qdrant_client import models

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.dates import parse_period
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.values import INT64_MAX, INT64_MIN, describe_value, is_utf8
from clip_qdrant.fields.wall_clock import wall_clock_key
from clip_qdrant.filters.language import Test

__all__ = ["OPERATORS", "build_test", "join_all", "join_any", "negate"]

_EQUALITY = ("=", "!=", "in", "not in")
_ORDER = ("<", "<=", ">", ">=", "between")
_PRESENCE = ("is null", "is not null", "exists")

OPERATORS: Mapping[FieldType, tuple[str, ...]] = {
    "keyword": (*_EQUALITY, *_PRESENCE),
    "integer": (*_EQUALITY, *_ORDER, *_PRESENCE),
    "float": (*_EQUALITY, *_ORDER, *_PRESENCE),
    "datetime": (*_EQUALITY, *_ORDER, *_PRESENCE),
    "bool": ("=", "!=", *_PRESENCE),
    "geo": ("within", *_PRESENCE),
    "text": ("~", *_PRESENCE),
}

# A Range holds floats of 64 bits: from here on they skip integers.
_EXACT = 2**53
_LAST_MOMENT = datetime.max.replace(tzinfo=timezone.utc)

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
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        return empty if test.operator == "is null" else negate(empty)
    try:
        if field_type == "geo":
            return _within(key, test)
        if field_type == "text":
            return _words(key, name, test)
        if test.operator in _ORDER:
            return _range(key, name, field_type, test)
        equal = _equal(key, name, field_type, test)
    except _UnfitValue as unfit:
        raise refusal(str(unfit), test.values_at[unfit.index]) from unfit
    return negate(equal) if test.operator in ("!=", "not in") else equal


class _UnfitValue(Exception):
    """A value that its field cannot be compared with; `index` is its place among the values of the test."""

    def __init__(self, index: int, problem: str) -> None:
        self.index = index
        super().__init__(problem)


def _equal(key: str, name: str, field_type: FieldType, test: Test) -> models.Condition:
    if field_type == "float":
        # Match knows no floats
        numbers = [_number(i, name, field_type, value) for i, value in enumerate(test.values)]
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
        number = _number(index, name, field_type, value)
        if number != int(number):
            raise _UnfitValue(index, f"{name} is an integer field and never equals {value}")
        return int(number)
    if field_type == "bool":
        if not isinstance(value, bool):
            raise _UnfitValue(
                index, f"{name} is a bool field: compare it with true or false, not {describe_value(value)}"
            )
        return value
    if not isinstance(value, str):
        raise _UnfitValue(
            index, f"{name} is a keyword field: compare it with text in quotes, not {describe_value(value)}"
        )
    return _text(index, value)


def _range(key: str, name: str, field_type: FieldType, test: Test) -> models.Condition:
    operators = (">=", "<=") if test.operator == "between" else (test.operator,)
    if field_type == "datetime":
        periods = [_period(i, name, value) for i, value in enumerate(test.values)]
        if len({_has_zone(period) for period in periods}) > 1:
            raise _UnfitValue(1, "between takes two dates with a zone, or two without; give both a zone, such as Z")
        _check_order(periods[0][0] > periods[-1][0])
        return _within_moments(key, list(zip(operators, periods, strict=True)))
    numbers = [_number(i, name, field_type, value) for i, value in enumerate(test.values)]
    _check_order(numbers[0] > numbers[-1])
    limits: dict[str, int | float] = {}
    for i, (operator, number) in enumerate(zip(operators, numbers, strict=True)):
        if field_type == "integer":
            if abs(number) >= _EXACT:
                raise _UnfitValue(i, f"{operator} is exact only below 2^53; compare {name} by = or in")
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
        key, limits = wall_clock_key(key), {side: at.replace(tzinfo=timezone.utc) for side, at in limits.items()}
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


def _check_order(reversed_: bool) -> None:
    if reversed_:
        raise _UnfitValue(0, "between a and b selects nothing where a is greater than b; swap the two")


def _within(key: str, test: Test) -> models.Condition:
    metres, lat, lon = (_number(i, "within", "geo", value) for i, value in enumerate(test.values))
    if metres <= 0:
        raise _UnfitValue(0, "the distance must be greater than 0")
    for i, (part, number, limit) in enumerate((("latitude", lat, 90), ("longitude", lon, 180)), start=1):
        if abs(number) > limit:
            raise _UnfitValue(i, f"the {part} {number} is not from -{limit} to {limit} degrees; write (lat, lon)")
    return _field(key, geo_radius=models.GeoRadius(center=models.GeoPoint(lat=lat, lon=lon), radius=metres))


def _words(key: str, name: str, test: Test) -> models.Condition:
    value = test.values[0]
    if not isinstance(value, str):
        raise _UnfitValue(0, f"{name} is a text field: search it for text in quotes, not {describe_value(value)}")
    if not re.search(r"[^\W_]", value):
        raise _UnfitValue(0, f"{value!r} holds no word to search {name} for")
    return _field(key, match=models.MatchText(text=_text(0, value)))


def _number(index: int, name: str, field_type: FieldType, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        kind = "takes numbers" if field_type == "geo" else f"is {_a(field_type)} field: compare it with a number"
        hint = ", without quotes" if isinstance(value, str) else ""
        raise _UnfitValue(index, f"{name} {kind}{hint}, not {describe_value(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise _UnfitValue(index, f"{value} is not a number to compare with")
    if not INT64_MIN <= value <= INT64_MAX and (isinstance(value, int) or field_type == "integer"):
        raise _UnfitValue(index, f"{describe_value(value)} is beyond the integers of 64 bits")
    return value


def _period(index: int, name: str, value: Any) -> _Period:
    if isinstance(value, datetime):
        last = _LAST_MOMENT if value.tzinfo is not None else datetime.max
        return value, value + timedelta(microseconds=1) if value < last else None
    text = value.isoformat() if isinstance(value, date) else value
    period = parse_period(text) if isinstance(text, str) else None
    if period is None:
        quoted = f"; put the date in quotes: '{value}'" if type(value) is int else ""
        raise _UnfitValue(
            index,
            f"{name} is a datetime field: compare it with a date such as '2024', '2024-05', '2024-05-01' "
            f"or '2024-05-01T10:00:00Z', not {describe_value(value)}{quoted}",
        )
    return period


def _text(index: int, value: str) -> str:
    if not is_utf8(value):
        raise _UnfitValue(index, f"{value!r} is not valid Unicode text (a lone surrogate)")
    return str.__str__(value)


def _a(field_type: FieldType) -> str:
    return f"an {field_type}" if field_type == "integer" else f"a {field_type}"


def _field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)
