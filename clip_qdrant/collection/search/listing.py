"""list_images: the images that a filter selects, without a query: by their ids, or by the values of a field.

A store puts points in order by the numbers and dates of an index, but leaves out those without a value, shows one with
several values several times, and gives equal values in no order that holds from page to page. So it is asked for the
values of the page alone; which images they are is asked again by id at the two ends of the page, where equal values may
go on beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from qdrant_client import models

from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.reader import CollectionReader
from clip_qdrant.collection.search.order import Order, resolve_order
from clip_qdrant.collection.search.request import StoreRequest

__all__ = ["list_images"]

_SORTED_BY_STORE = ("integer", "float", "datetime")
_EXACT = 2**53  # from here on the conditions of a store, which compare floats of 64 bits, skip integers
_STEPS = 4  # floats on either side that count as equal: the embedded engine gives back another last bit


def list_images(request: StoreRequest) -> list[Hit]:
    """The hits of a request without a query, from its offset on, as many as its limit."""
    options = request.options
    if options.order_by is None:
        return request.read_hits(options.limit, options.offset)
    order = resolve_order(options.order_by, request.reader)
    with request.clock.measure("store"):
        ids = _Listing(request.reader, request.selection, order).read_ids(options.limit, options.offset)
    return request.fill_hits(ids, {})


class _Listing:
    """The ids of what a filter selects, in an order."""

    def __init__(self, reader: CollectionReader, selection: models.Filter | None, order: Order) -> None:
        self._reader = reader
        self._order = order
        self._key = order.key
        self._selection = [selection] if selection is not None else []

    def read_ids(self, limit: int, offset: int) -> list[Any]:
        """The ids of the ranks from `offset` on. Reads all that is selected where the store cannot sort it."""
        if self._order.kind not in _SORTED_BY_STORE or self._has_lists():
            return self._scan()[offset : offset + limit]
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=self._key))
        valued = self._reader.count_exactly(models.Filter(must=[*self._selection], must_not=[empty]))
        ids = self._read_valued(min(limit, valued - offset), offset) if offset < valued else []
        if ids is None:
            return self._scan()[offset : offset + limit]
        if len(ids) < limit:
            rest = models.Filter(must=[*self._selection, empty])
            ids += self._read_by_id(rest, limit - len(ids), max(0, offset - valued))
        return ids

    def _has_lists(self) -> bool:
        several = models.FieldCondition(key=self._key, values_count=models.ValuesCount(gt=1))
        return bool(self._reader.count(models.Filter(must=[*self._selection, several])))

    def _scan(self) -> list[Any]:
        records: list[models.Record] = []
        selection, after = models.Filter(must=[*self._selection]) if self._selection else None, None
        while True:
            some, after = self._reader.scroll(selection, after, [self._key], False)
            records += some
            if after is None:
                return [record.id for record in self._order.sort(records, lambda record: record.payload)]

    def _read_valued(self, limit: int, offset: int) -> list[Any] | None:
        """The ids of the ranks from `offset` on, all with a value; None where no condition tells them apart."""
        direction = models.Direction.DESC if self._order.descending else models.Direction.ASC
        points = self._query(
            lambda size, start: self._reader.client.query_points(
                self._reader.name,
                query=models.OrderByQuery(order_by=models.OrderBy(key=self._key, direction=direction)),
                query_filter=models.Filter(must=[*self._selection]) if self._selection else None,
                limit=size,
                offset=start or None,
                with_payload=[self._key],
            ),
            limit,
            offset,
        )
        pairs = [(self._order.value(point.payload), point.id) for point in points]
        runs = [(value, [one for _, one in run]) for value, run in groupby(pairs, key=lambda pair: pair[0])]
        if self._order.kind == "integer" and any(abs(value) >= _EXACT for value, _ in (*runs[:1], *runs[-1:])):
            return None
        ids: list[Any] = []
        for number, (value, run) in enumerate(runs):
            if number == 0 and offset:
                start = offset - self._reader.count_exactly(self._where(self._before(value)))
            else:
                start = 0
            if number in (0, len(runs) - 1):
                ids += self._read_by_id(self._where(self._equal(value)), len(run), start)
            else:
                ids += sorted(run, key=str)
        return ids

    def _read_by_id(self, selection: models.Filter, limit: int, offset: int) -> list[Any]:
        points = self._query(
            lambda size, start: self._reader.client.query_points(
                self._reader.name, query_filter=selection, limit=size, offset=start or None, with_payload=False
            ),
            limit,
            offset,
        )
        return [point.id for point in points]

    def _query(self, ask: Callable[[int, int], Any], limit: int, offset: int) -> list[models.ScoredPoint]:
        return self._reader.query(ask, limit=limit, offset=offset)

    def _where(self, condition: models.Condition) -> models.Filter:
        return models.Filter(must=[*self._selection, condition])

    def _equal(self, value: Any) -> models.Condition:
        return self._range(gte=_step(value, -math.inf), lte=_step(value, math.inf))

    def _before(self, value: Any) -> models.Condition:
        """The condition that holds for what comes before a value in the order."""
        if self._order.descending:
            return self._range(gt=_step(value, math.inf))
        return self._range(lt=_step(value, -math.inf))

    def _range(self, **bounds: Any) -> models.Condition:
        if self._order.kind == "datetime":
            moments = {name: moment.replace(tzinfo=UTC) for name, moment in bounds.items()}
            return models.FieldCondition(key=self._key, range=models.DatetimeRange(**moments))
        return models.FieldCondition(key=self._key, range=models.Range(**bounds))


def _step(value: Any, towards: float) -> Any:
    """A float some steps aside, as its last bits are not to be trusted; others as they are."""
    if isinstance(value, datetime | int):
        return value
    for _ in range(_STEPS):
        value = math.nextafter(value, towards)
    return value
