"""Operands of conditions, checked: numbers and texts that a field can be compared with."""

from __future__ import annotations

import math
from typing import Any

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.values import INT64_MAX, INT64_MIN, LONGEST_TEXT, describe_value, is_utf8

__all__ = ["check_number", "check_order", "check_text", "name_type", "unfit"]


def unfit(index: int, problem: str) -> FilterError:
    """The error for a value that its field cannot be compared with; `index` is its place among those of the test."""
    return FilterError(problem, operand=index)


def check_number(index: int, name: str, field_type: FieldType, value: Any) -> int | float:
    """The value, if it is a number that fits the type of its field."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        kind = "takes numbers" if field_type == "geo" else f"is {name_type(field_type)} field: compare it with a number"
        hint = ", without quotes" if isinstance(value, str) else ""
        raise unfit(index, f"{name} {kind}{hint}, not {describe_value(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise unfit(index, f"{value} is not a number to compare with")
    if not INT64_MIN <= value <= INT64_MAX and (isinstance(value, int) or field_type == "integer"):
        raise unfit(index, f"{describe_value(value)} is beyond the integers of 64 bits")
    return value


def check_text(index: int, value: str) -> str:
    """The value, if a field can hold such a text."""
    if not is_utf8(value):
        raise unfit(index, f"{describe_value(value)} is not valid Unicode text (a lone surrogate)")
    if len(value) > LONGEST_TEXT:
        raise unfit(
            index,
            f"this text has {len(value)} characters, and no field holds more than {LONGEST_TEXT} bytes; shorten it",
        )
    return str.__str__(value)


def check_order(reversed_: bool) -> None:
    if reversed_:
        raise unfit(0, "between a and b selects nothing where a is greater than b; swap the two")


def name_type(field_type: FieldType) -> str:
    return f"an {field_type}" if field_type == "integer" else f"a {field_type}"
