"""What one metadata value is: its kind, its JSON form, and the error for one that fits no field."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.dates import parse_datetime
from clip_qdrant.fields.types import FieldType, Location

__all__ = [
    "INT64_MAX",
    "INT64_MIN",
    "LONGEST_TEXT",
    "check_text",
    "convert_value",
    "describe_value",
    "explain_unsupported",
    "is_place",
    "is_utf8",
    "kind_of",
    "misfit",
    "name_in_error",
    "same_json",
    "unbox",
]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Bytes in UTF-8. Qdrant takes 32 MB in one request, and a page of search results holds many images.
LONGEST_TEXT = 64 * 1024
PROSE_LENGTH = 256  # characters; a longer string is for full text search, not for equality


def unbox(value: Any, uri: str | None, name: str | None) -> Any:
    """A value without its numpy, enum, set or Location wrapping: None, bool, int, float, str, date, list or Mapping."""
    if isinstance(value, np.datetime64):
        moment = value.astype("datetime64[us]").item()  # finer units would give an int
        if not isinstance(moment, date):
            raise misfit(uri, name, value, "is no moment that can be stored; leave the field out")
        return moment
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return list(value) if value.ndim else unbox(value[()], uri, name)
    if isinstance(value, enum.Enum) and isinstance(value, (str, int)):
        return value.value
    if isinstance(value, Location):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)  # a set has no order of its own, and the same metadata must give the same payload
        except TypeError:
            return sorted(value, key=repr)
    if isinstance(value, tuple):
        return list(value)
    return value


def is_place(value: Mapping[Any, Any]) -> bool:
    """Whether a dict has the two keys of a geo value, and no others."""
    return set(value) == {"lat", "lon"}


def kind_of(value: Any) -> str | None:
    """What one value looks like: a field type, or `moment` for a date object, which fits no other type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        if len(value) > PROSE_LENGTH:
            return "text"
        return "datetime" if parse_datetime(value) else "keyword"
    if isinstance(value, date):
        return "moment"
    if isinstance(value, Mapping) and is_place(value):
        return "geo"
    return None


def convert_value(value: Any, field_type: FieldType | None, uri: str | None, name: str) -> Any:
    """One unboxed value in the JSON type of its field; for a field without a type, in the JSON type nearest to it."""
    kind = kind_of(value)
    wanted = field_type or {None: None, "moment": "datetime", "text": "keyword", "datetime": "keyword"}.get(kind, kind)
    if kind is None:
        raise misfit(uri, name, value, explain_unsupported(value, field_type))
    if isinstance(value, float) and not math.isfinite(value):
        raise misfit(uri, name, value, "is not a number that JSON has; leave the field out instead")
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        raise misfit(uri, name, value, "is beyond 64 bits; store it as a str")
    if isinstance(value, str):
        check_text(value, uri, name)
        if wanted in ("keyword", "text"):
            return str.__str__(value)
    if wanted == "datetime":
        moment = parse_datetime(value) if isinstance(value, str) else value
        if isinstance(value, str) and moment is not None and ":" not in value:
            moment = moment.date()  # a day comes back as a day
        text = _format_moment(moment) if isinstance(moment, date) else None
        if text is not None:
            return text
    elif wanted == "geo" and kind == "geo":
        return _place(value, uri, name)
    elif wanted == "float" and kind in ("integer", "float"):
        if float(value) != value:
            raise misfit(uri, name, value, "is not exact as a float of 64 bits; declare the field as integer in Python")
        return float(value)
    elif wanted == kind:
        return bool(value) if kind == "bool" else int(value)
    raise misfit(uri, name, value, f"does not fit its type {wanted}; {_way_out(field_type, kind)}")


def _place(value: Mapping[str, Any], uri: str | None, name: str) -> dict[str, float]:
    place = {part: unbox(value[part], uri, name) for part in ("lat", "lon")}
    for part, limit in (("lat", 90), ("lon", 180)):
        number = place[part]
        # not (a <= b) is true of NaN too
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not -limit <= number <= limit:
            raise misfit(uri, name, value, f"is no place: {part} must be a number of degrees from -{limit} to {limit}")
    return {part: float(number) for part, number in place.items()}


def _format_moment(moment: date) -> str | None:
    """ISO 8601 text of a date or datetime, without a zone where it has none; None for the NaT of pandas and the like.

    With a zone it is RFC 3339. A date has no time: Qdrant takes it as its midnight.
    """
    if not isinstance(moment, datetime):
        return moment.isoformat()
    offset = moment.utcoffset()
    if offset is not None and offset % timedelta(minutes=1):  # old local times; RFC 3339 has no seconds there
        moment = moment.astimezone(UTC)
    parsed = parse_datetime(moment.isoformat())  # cuts off the nanoseconds of other datetime classes
    return parsed.isoformat() if parsed is not None else None


def _way_out(field_type: FieldType | None, kind: str | None) -> str:
    if field_type == "datetime":
        return "give a date, a datetime or ISO 8601 text such as 2024-05-01, or declare the field as keyword in Python"
    if field_type == "geo":
        return 'give {"lat": …, "lon": …}'
    if field_type == "integer" and kind == "float":
        return "give an int, or declare the field as float in Python"
    python_type = {"keyword": "a str", "text": "a str", "integer": "an int", "float": "a number", "bool": "a bool"}
    wanted = python_type[field_type or "keyword"]
    if kind is None:
        return f"give {wanted} or use another name"
    return f"give {wanted}, or declare the field as {'datetime' if kind == 'moment' else kind} in Python"


def explain_unsupported(value: Any, field_type: FieldType | None = None) -> str:
    """What to say of a value that has no kind."""
    if isinstance(value, Mapping):
        if field_type is None:
            return "is a dict in a list; only plain values and places can be list elements"
        return f"is a dict where the field has the type {field_type}; {_way_out(field_type, None)}"
    if isinstance(value, (list, np.ndarray)):
        return "is a list in a list; flatten it"
    return "is of no type that can be stored; give a str, number, bool, date, place or a list of one of these"


def check_text(text: str, uri: str | None, name: str) -> None:
    """MetadataError for a text that cannot be stored in the field `name`: no Unicode, or longer than LONGEST_TEXT."""
    if not is_utf8(text):
        raise misfit(uri, name, text, "is not valid Unicode text (a lone surrogate); clean or leave out the value")
    if 4 * len(text) > LONGEST_TEXT and (size := len(text.encode())) > LONGEST_TEXT:
        raise misfit(uri, name, text, f"has {size} bytes; the limit of a text is {LONGEST_TEXT}: shorten it")


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe_value(value: Any) -> str:
    """A value in an error message: its repr, shortened, and its Python type."""
    try:
        text = repr(value)
    except ValueError:  # an int of thousands of digits
        text = "…"
    return f"{text if len(text) <= 80 else text[:77] + '…'} ({type(value).__name__})"


def name_in_error(uri: str | None) -> str:
    """How an error message about metadata starts."""
    return f"{uri}: " if uri is not None else ""


def misfit(uri: str | None, name: str | None, value: Any, problem: str) -> MetadataError:
    """The error for a value of the field `name` that cannot be stored."""
    subject = f"metadata field {name!r}: " if name is not None else ""
    return MetadataError(f"{name_in_error(uri)}{subject}{describe_value(value)} {problem}", field=name)


def same_json(wanted: Any, stored: Any) -> bool:
    """Equality of JSON values; a float may have lost its last bits on the way through a store's JSON.

    Embedded Qdrant 0.9 gives about one float in eight back with another last bit; of an mtime that is 0.2 µs.
    """
    if isinstance(wanted, Mapping) and isinstance(stored, Mapping):
        return wanted.keys() == stored.keys() and all(same_json(value, stored[name]) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(stored, list):
        return len(wanted) == len(stored) and all(map(same_json, wanted, stored))
    if isinstance(wanted, float) and isinstance(stored, float):
        return math.isclose(wanted, stored, rel_tol=1e-14)
    return type(wanted) is type(stored) and bool(wanted == stored)
