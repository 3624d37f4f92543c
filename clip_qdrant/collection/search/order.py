"""Order: the field by which images are put in order, and the values of images for it.

"taken_at" and "taken_at asc" begin with the oldest, "-taken_at" and "taken_at desc" with the newest. Images without a
value come last either way, and equal values in the order of their ids. Of several values of one image the first in
the order counts. A date counts as the clock showed it, as it does for a filter without a zone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.fields.dates import parse_datetime
from clip_qdrant.fields.names import split_path
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.wall_clock import wall_clock_key
from clip_qdrant.filters.build import resolve_field

if TYPE_CHECKING:
    from clip_qdrant.collection.reader import CollectionReader

__all__ = ["Order", "read_value", "resolve_order"]

_T = TypeVar("_T")
_DIRECTED = re.compile(r"(.+?)\s+(asc|desc)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """`key` is the payload key whose values are compared."""

    key: str
    kind: FieldType
    descending: bool

    def sort(self, items: Iterable[_T], payload: Callable[[_T], Mapping[str, Any] | None]) -> list[_T]:
        """The items by their value; those without last, equal ones as they came."""
        keyed = [(self.value(payload(item)), item) for item in items]
        some = [pair for pair in keyed if pair[0] is not None]
        some.sort(key=lambda pair: pair[0], reverse=self.descending)
        return [item for _, item in some] + [item for value, item in keyed if value is None]

    def value(self, payload: Mapping[str, Any] | None) -> Any:
        """What an image is compared by, of one type for all images; None without a value."""
        stored = read_value(payload, self.key)
        values = [self._comparable(one) for one in (stored if isinstance(stored, list) else [stored])]
        known = [value for value in values if value is not None]
        if not known:
            return None
        return max(known) if self.descending else min(known)

    def _comparable(self, value: Any) -> Any:
        if self.kind == "datetime":
            moment = parse_datetime(value) if isinstance(value, str) else None
            return None if moment is None else moment.replace(tzinfo=None)
        if self.kind in ("keyword", "text"):
            return (value.casefold(), value) if isinstance(value, str) else None
        return value if isinstance(value, int | float) else None


def resolve_order(text: str, reader: CollectionReader) -> Order:
    """What `order_by` says. Raises FilterError for a field that is not there, QueryError for one without an order."""
    name, descending = text.strip(), False
    if match := _DIRECTED.fullmatch(name):
        name, descending = match[1], match[2].lower() == "desc"
    elif name.startswith("-"):
        name, descending = name[1:].strip(), True
    try:
        key = reader.resolve(lambda fields: resolve_field(name, fields))
    except FilterError as error:
        raise FilterError(f"order_by={text!r}: {error}", unknown_field=error.unknown_field) from error
    kind = reader.description.payload_fields[key]
    if kind == "geo":
        raise QueryError(f"order_by={text!r}: places have no order; name a field of another type")
    return Order(wall_clock_key(key) if kind == "datetime" else key, kind, descending)


def read_value(payload: Mapping[str, Any] | None, key: str) -> Any:
    """What a payload has at a payload key; None for nothing."""
    value: Any = payload
    for part in split_path(key):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
