"""How many images have each value of a field: of one field, or of several among which somebody chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qdrant_client import models

from clip_qdrant.collection.hits import Facet
from clip_qdrant.collection.reader import CollectionReader
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.fields.calendar import CALENDAR_KEY, CalendarPart, find_calendar_part
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.values import describe_value, unbox
from clip_qdrant.filters.build import Where, resolve_field

__all__ = ["Facets", "count_selected", "count_values"]

_FACETED: tuple[FieldType, ...] = ("keyword", "integer", "bool")
_RANGES: Mapping[FieldType, str] = {
    "float": "; count ranges of it (--bins, --edges; in Python histogram)",
    "datetime": "; count it by year, month, day or hour (--by; in Python histogram), or parts of it, as taken_at.month",
}
_MOST_VALUES = 10_000  # that one call reads; of a field with more values the rest is not counted one by one


class Facets(list[Facet]):
    """The values of a field with the number of images of each, a list, most frequent first.

    `more_values` and `more_images` are the numbers of values that are not in the list, and of images that have none of
    those in the list but another. `more_values` is None where there are too many to count them (10,000).
    """

    __slots__ = ("more_images", "more_values")

    def __init__(self, facets: Iterable[Facet] = (), *, more_values: int | None = 0, more_images: int = 0) -> None:
        super().__init__(facets)
        self.more_values = more_values
        self.more_images = more_images


def count_values(
    reader: CollectionReader, field: str, where: Where | None, limit: int, *, shown: Sequence[Any] = ()
) -> Facets:
    """The most frequent values of a field, `limit` at most, and those of `shown` besides, with 0 if need be.

    Raises FilterError for a field that is not there, or whose values are not counted.
    """
    values, complete = _read_values(reader, field, where)
    kept = values[:limit]
    rest = dict(values[limit:])
    kept += [(value, rest.pop(value, 0)) for value in dict.fromkeys(shown) if value not in dict(kept)]
    if not rest and complete:
        return Facets(Facet(value, count) for value, count in kept)
    others: list[Where] = [{field: {"exists": True}}, {"not": choose(field, [value for value, _ in kept], reader)}]
    more_images = reader.count(reader.build_filter({"and": [*others, *_list_where(where)]}))
    return Facets(
        (Facet(value, count) for value, count in kept),
        more_values=len(rest) if complete else None,
        more_images=more_images,
    )


def count_selected(
    reader: CollectionReader, selected: Mapping[str, Sequence[Any]], where: Where | None, limit: int
) -> dict[str, Facets]:
    """The values of several fields, each counted among the images that fit what is selected of all the others.

    `selected` are the chosen values of each field, of which one is enough; none is no restriction.
    """
    if not isinstance(selected, Mapping):
        raise QueryError(f"facets takes the chosen values by field, {{'album': []}}, not {describe_value(selected)}")
    for field, values in selected.items():
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise QueryError(f"facets: {field!r} takes a list of the chosen values, not {describe_value(values)}")
    chosen = {field: _read_chosen(field, values, reader) for field, values in selected.items()}
    conditions = {field: choose(field, values, reader) for field, values in chosen.items() if values}
    found = {}
    for field, values in chosen.items():
        others = [condition for other, condition in conditions.items() if other != field]
        narrowed = {"and": [*_list_where(where), *others]} if others else where
        found[field] = count_values(reader, field, narrowed, limit, shown=values)
    return found


def _read_chosen(field: str, values: Iterable[Any], reader: CollectionReader) -> list[Any]:
    """The chosen values of a field as the store counts them: of months 12 for 'dec', of integers 3 for 3.0.

    Raises FilterError for what a filter refuses, and for None, which is no value.
    """
    chosen = list(values)
    if not chosen:
        return []
    if any(value is None for value in chosen):  # which a filter takes for "is null" of a bool
        way_out = f"for the images without one give where={{{field!r}: None}}"
        raise FilterError(f"facets: None is no value of {field!r}; {way_out}")
    reader.build_filter(choose(field, chosen, reader))
    bare = [unbox(value, None, field) for value in chosen]
    if (part := find_calendar_part(field)) is not None:
        return [part.write(number) for value in bare if (number := part.read(value)) is not None]
    kind = reader.description.payload_fields[_find_key(field, reader)]
    return [int(value) for value in bare] if kind == "integer" else bare


def choose(field: str, values: Sequence[Any], reader: CollectionReader) -> dict[str, Any]:
    """The where that one of the values is that of the field."""
    if find_calendar_part(field) is None and reader.description.payload_fields[_find_key(field, reader)] == "bool":
        return {"or": [{field: {"=": value}} for value in values]}  # bool fields know no `in`
    return {field: {"in": list(values)}}


def _list_where(where: Where | None) -> list[Where]:
    return [] if where is None or (isinstance(where, str) and not where.strip()) or where == {} else [where]


def _find_key(field: str, reader: CollectionReader) -> str:
    return reader.resolve(lambda fields: resolve_field(field, fields))


def _read_values(
    reader: CollectionReader, field: str, where: Where | None
) -> tuple[list[tuple[str | int | bool, int]], bool]:
    """The values of a field, most frequent first, with their counts; and whether these are all."""
    part = find_calendar_part(field)
    key = CALENDAR_KEY if part is not None else _find_key(field, reader)
    if part is None and (kind := reader.description.payload_fields[key]) not in _FACETED:
        way_out = _RANGES.get(kind, "")
        raise FilterError(
            f"field {field!r} is of type {kind}; values are counted for {', '.join(_FACETED)} only{way_out}"
        )
    selection = reader.build_filter(where)
    limit = _MOST_VALUES

    def ask(strict: Any) -> tuple[int, models.FacetResponse]:
        size = min(limit, strict.page or limit)
        return size, reader.client.facet(reader.name, key=key, facet_filter=selection, limit=size, exact=strict.exact)

    what = f"counting the values of {field!r} in collection {reader.name!r}"
    size, response = reader.description.ask_within_limits(ask, what=what)
    hits = [(hit.value, hit.count) for hit in response.hits]
    return (hits if part is None else _join_codes(part, hits)), len(hits) < size


def _join_codes(part: CalendarPart, hits: Iterable[tuple[Any, int]]) -> list[tuple[str | int | bool, int]]:
    """The counts of a calendar part from those of the codes that have it."""
    counts: Counter[str | int | bool] = Counter()
    for code, count in hits:
        number = part.decode(code)
        if number is not None:
            counts[part.write(number)] += count
    return sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0]).rjust(5)))
