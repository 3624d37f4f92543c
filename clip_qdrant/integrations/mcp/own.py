"""A collection of this package, as the tools read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.query import Query
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.fields.calendar import find_calendar_part
from clip_qdrant.fields.types import RESERVED_FIELDS, FieldType
from clip_qdrant.filters.build import Where, resolve_field, show_field
from clip_qdrant.integrations.find_images import find_images, join_filters
from clip_qdrant.integrations.mcp.lookup import Lookup, Period, read_filter

if TYPE_CHECKING:
    from clip_qdrant.collection.facets.histogram import Histogram
    from clip_qdrant.collection.facets.values import Facets
    from clip_qdrant.collection.hits import Hit, Hits
    from clip_qdrant.collection.images import ImageCollection

__all__ = ["OwnCollection"]

# What a hit need not tell: how it was stored, and what is there for filters alone.
_KEPT_BACK = ("fingerprint", "ingested_at", "source", "edits", "local_time", "calendar", "words")
_COUNTED: tuple[FieldType, ...] = ("keyword", "integer", "bool", "float", "datetime")
# Of the fields that every image has, those whose values somebody may want to choose from.
_CHOSEN = ("image.format", "source.name", "taken_at")
_MOST_FIELDS = 40  # whose values are counted: each takes a call


class OwnCollection:
    """An ImageCollection that is there."""

    notes: Sequence[str] = ()

    def __init__(self, images: ImageCollection) -> None:
        self._images = images
        self.name = images.name

    def search(self, query: str | None, lookup: Lookup) -> Hits:
        return self._search(None if query is None else Query.text(query), lookup)

    def find_similar(self, image: str | bytes, lookup: Lookup) -> Hits:
        return self._search(Query.image(image) if isinstance(image, bytes) else Query.id(image), lookup)

    def _search(self, query: Query | None, lookup: Lookup) -> Hits:
        if lookup.min_relevance is not None and self._images.calibration is None:
            raise QueryError(
                f"nothing tells how likely a match is in collection {self.name!r}, which is not calibrated: leave "
                "min_relevance out"
            )
        options = SearchOptions(
            limit=lookup.limit,
            offset=lookup.offset,
            text=lookup.words,
            min_relevance=lookup.min_relevance,
            order_by=lookup.order_by,
        )
        return find_images(self._images, query, where=_join(lookup), options=options)

    def get(self, image: str) -> Hit | None:
        return self._images.get(image)

    def list_hits(self, hits: Sequence[Hit], *, whole: bool) -> list[dict[str, Any]]:
        if whole:
            return [hit.to_dict() for hit in hits]
        return [{key: value for key, value in hit.to_dict().items() if key not in _KEPT_BACK} for hit in hits]

    def describe(self, values: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        looked_at = 0
        for key, kind in self._images.fields.items():
            field: dict[str, Any] = {"type": kind}
            fields[show_field(key)] = field
            is_chosen_from = key not in RESERVED_FIELDS or key in _CHOSEN
            if kind in _COUNTED and is_chosen_from and looked_at < _MOST_FIELDS:
                looked_at += 1
                try:
                    field |= self.count_values(key, Lookup(limit=values), None)
                except FilterError as error:  # a server may have no index for it
                    field["not_counted"] = str(error)
        return {"images": self._images.count(), "exact": self._images.counts_exactly, "fields": fields}

    def count_values(self, field: str, lookup: Lookup, period: Period | None) -> dict[str, Any]:
        where, field = _join(lookup), field.replace("`", "")  # as `where` writes odd names
        fields = self._images.fields
        kind = "integer" if find_calendar_part(field) else fields[resolve_field(field, fields)]
        if period is not None and kind != "datetime":
            raise QueryError(f"by is for dates, and {field!r} is of type {kind}: count it without by")
        if kind == "datetime":
            return _list_ranges(self._images.histogram(field, by=period or "year", where=where), lookup.limit)
        if kind == "float":
            return _list_ranges(self._images.histogram(field, where=where), lookup.limit)
        return _list_values(self._images.facet(field, where=where, limit=lookup.limit))


def _join(lookup: Lookup) -> Where | None:
    return join_filters(lookup.where, None if lookup.filter is None else read_filter(lookup.filter))


def _list_values(values: Facets) -> dict[str, Any]:
    counted = [{"value": one.value, "count": one.count} for one in values]
    return {"values": counted, "more_values": values.more_values, "more_images": values.more_images}


def _list_ranges(ranges: Histogram, limit: int) -> dict[str, Any]:
    """The ranges that have images, the fullest `limit` of them, in order."""
    full = [one for one in ranges if one.count]
    shown = {id(one) for one in sorted(full, key=lambda one: -one.count)[:limit]}
    counted = [{"range": one.label, "count": one.count} for one in full if id(one) in shown]
    return {"ranges": counted, "more_ranges": len(full) - len(counted), "missing": ranges.missing}
