"""Histograms: how many images lie in each range of a number, or in each year, month, day or hour by the wall clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from numbers import Integral
from typing import Any, Literal, get_args

from qdrant_client import models

from clip_qdrant.collection.options import is_number
from clip_qdrant.collection.reader import CollectionReader
from clip_qdrant.collection.search.order import Order
from clip_qdrant.errors import QueryError
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.values import describe_value
from clip_qdrant.fields.wall_clock import wall_clock_key
from clip_qdrant.filters.build import Where, resolve_field

__all__ = ["Bin", "Histogram", "Period", "make_histogram"]

Period = Literal["year", "month", "day", "hour"]
_PERIODS: tuple[Period, ...] = get_args(Period)
_NAMED = f"{', '.join(_PERIODS[:-1])} or {_PERIODS[-1]}"
_LENGTHS = {"year": 4, "month": 7, "day": 10, "hour": 13}  # of ISO 8601, as filters take it
_LAST_BITS = 1e-14  # of a float
_MOST_BINS = 2000  # each is a count, unless there is nothing in the year or month that it is of


@dataclass(frozen=True, slots=True)
class Bin:
    """The images from `start` up to `end`, without the latter (the last range of numbers has its end too).

    Dates are what the clock showed where the picture was taken, without a zone.
    """

    start: float | datetime
    end: float | datetime
    count: int
    label: str


class Histogram(list[Bin]):
    """The ranges in order, a list, the empty ones among them. `missing` is the number of images without a value,
    `outside` that of images whose values lie in none of the ranges.
    """

    __slots__ = ("missing", "outside")

    def __init__(self, ranges: Iterable[Bin] = (), *, missing: int = 0, outside: int = 0) -> None:
        super().__init__(ranges)
        self.missing = missing
        self.outside = outside


def make_histogram(
    reader: CollectionReader,
    field: str,
    where: Where | None,
    *,
    by: Period | None,
    bins: int | None,
    edges: Sequence[float] | None,
) -> Histogram:
    """See ImageCollection.histogram."""
    key = reader.resolve(lambda fields: resolve_field(field, fields))
    kind = reader.description.payload_fields[key]
    _check_kind(field, kind, by=by, bins=bins, edges=edges)
    counter = _Counter(reader, wall_clock_key(key) if kind == "datetime" else key, kind, where)
    if kind == "datetime":
        ranges = _count_periods(counter, field, by or "year")
    else:
        limits = _check_edges(edges) if edges is not None else _split(counter, 10 if bins is None else int(bins))
        ranges = list(_count_ranges(counter, limits, outwards=edges is None))
    outside = 0 if edges is None else counter.count_outside(ranges[0].start, ranges[-1].end)
    return Histogram(ranges, missing=counter.count_missing(), outside=outside)


class _Counter:
    """Counts images by ranges of one payload key among those that a filter selects."""

    def __init__(self, reader: CollectionReader, key: str, kind: FieldType, where: Where | None) -> None:
        self._reader = reader
        self.key = key
        self.kind = kind
        selection = reader.build_filter(where)
        self._selection: list[models.Condition] = [selection] if selection is not None else []

    def count(self, start: Any, end: Any, *, closed: bool = False) -> int:
        """The images with a value from start to end; without the end unless closed."""
        return self._reader.count(models.Filter(must=[*self._selection, self._range(start, end, closed=closed)]))

    def count_outside(self, start: Any, end: Any) -> int:
        """The images that have values, and none of them from start to end."""
        inside = self._range(start, end, closed=True)
        return self._reader.count(models.Filter(must=[*self._selection], must_not=[inside, self._empty()]))

    def count_missing(self) -> int:
        return self._reader.count(models.Filter(must=[*self._selection, self._empty()]))

    def _range(self, start: Any, end: Any, *, closed: bool) -> models.Condition:
        bounds = {"gte": start, "lte" if closed else "lt": end}
        if self.kind == "datetime":
            moments = {name: _in_utc(bound) for name, bound in bounds.items()}
            return models.FieldCondition(key=self.key, range=models.DatetimeRange(**moments))
        return models.FieldCondition(key=self.key, range=models.Range(**bounds))

    def _empty(self) -> models.Condition:
        return models.IsEmptyCondition(is_empty=models.PayloadField(key=self.key))

    def find_ends(self) -> tuple[Any, Any] | None:
        """The least and the greatest value; None without any."""
        ends = [self._find_end(descending) for descending in (False, True)]
        return None if None in ends else (ends[0], ends[1])

    def _find_end(self, descending: bool) -> Any:
        order = models.OrderBy(key=self.key, direction=models.Direction.DESC if descending else models.Direction.ASC)
        records = self._reader.description.ask(
            lambda: self._reader.client.query_points(
                self._reader.name,
                query=models.OrderByQuery(order_by=order),
                query_filter=models.Filter(must=[*self._selection]) if self._selection else None,
                limit=1,
                with_payload=[self.key],
            ),
            what=f"reading from collection {self._reader.name!r}",
        ).points
        return Order(self.key, self.kind, descending).value(records[0].payload) if records else None


def _in_utc(moment: Any) -> Any:
    return moment.replace(tzinfo=UTC) if isinstance(moment, datetime) else moment


def _check_kind(field: str, kind: FieldType, *, by: Any, bins: Any, edges: Any) -> None:
    if kind == "datetime":
        if bins is not None or edges is not None:
            raise QueryError(f"{field!r} is a datetime field: count it by {_NAMED} (--by month, by='month')")
        if by is not None and by not in _PERIODS:
            raise QueryError(f"dates are counted by {_NAMED} (--by, by), not by {describe_value(by)}")
        return
    if kind not in ("integer", "float"):
        values = "; count its values, without --by, --bins and --edges (in Python facet)"
        way_out = values if kind in ("keyword", "bool") else ""
        raise QueryError(f"field {field!r} is of type {kind}; a histogram is one of numbers or dates{way_out}")
    if by is not None:
        raise QueryError(
            f"{field!r} is a field of numbers: count it in bins (--bins 10, bins=10) or between edges (--edges 0,100, "
            "edges=[0, 100]); by is for dates"
        )
    if bins is not None and edges is not None:
        raise QueryError("bins and edges (--bins, --edges) each say what the ranges are: give one of them")
    if bins is not None and (
        isinstance(bins, bool) or not isinstance(bins, Integral) or not 1 <= int(bins) <= _MOST_BINS
    ):
        raise QueryError(f"bins is a whole number from 1 to {_MOST_BINS}, not {describe_value(bins)}")


def _check_edges(edges: Sequence[float]) -> list[float]:
    if not isinstance(edges, Iterable):
        raise QueryError(f"edges takes a list of numbers, not {describe_value(edges)}")
    given: list[float] = []
    for edge in edges:
        if not is_number(edge) or not math.isfinite(edge):
            raise QueryError(f"edges are finite numbers, not {describe_value(edge)}")
        given.append(int(edge) if isinstance(edge, Integral) else float(edge))
    if not 2 <= len(given) <= _MOST_BINS + 1 or any(a >= b for a, b in pairwise(given)):
        raise QueryError(f"edges are 2 to {_MOST_BINS + 1} numbers, each greater than the one before")
    return given


def _split(counter: _Counter, bins: int) -> list[float]:
    """The edges of ranges of equal width from the least to the greatest value; whole numbers for integers."""
    ends = counter.find_ends()
    if ends is None:
        return []
    low, high = ends
    if counter.kind == "integer":
        step = max(1, math.ceil((high - low) / bins))
        return [low + step * i for i in range(max(1, math.ceil((high - low) / step)))] + [max(high, low + 1)]
    low, high = (float(f"{end:.15g}") for end in ends)  # without the last bit, in which the embedded store errs
    if low == high:
        return [low, high]
    return [low + (high - low) * i / bins for i in range(bins)] + [high]


def _count_ranges(counter: _Counter, limits: Sequence[float], *, outwards: bool) -> Iterator[Bin]:
    """The ranges between limits, the last one with its end. `outwards`: of all values, whatever their last bit."""
    last = len(limits) - 1
    for i, (start, end) in enumerate(pairwise(limits), start=1):
        low = start - abs(start) * _LAST_BITS if outwards and i == 1 else start
        high = end + abs(end) * _LAST_BITS if outwards and i == last else end
        yield Bin(start, end, counter.count(low, high, closed=i == last), f"{start:g} to {end:g}")


def _count_periods(counter: _Counter, field: str, by: Period) -> list[Bin]:
    """The ranges from the first to the last moment; a period that has no image is not looked into."""
    ends = counter.find_ends()
    if ends is None:
        return []
    first, last = (_floor(moment, by) for moment in ends)
    number = _count_between(first, last, by)
    if number > _MOST_BINS:
        span = f"{_label(first, by)} to {_label(last, by)}"
        raise QueryError(
            f"{field} is from {span}, {number} of by={by!r}, and {_MOST_BINS} is the most: say a longer period, or "
            f"narrow it by where, as in \"{field} >= '{_label(last, 'year')}'\""
        )
    return list(_look_into(counter, by, 0, first, last))


def _look_into(
    counter: _Counter, by: Period, level: int, first: datetime, last: datetime, *, empty: bool = False
) -> Iterator[Bin]:
    """The ranges from first to last, looked for period by period; where it is known to be empty nothing is counted."""
    period = _PERIODS[level]
    start = _floor(first, period)
    while start <= last:
        end = _next(start, period)
        number = 0 if empty else counter.count(start, end, closed=end == datetime.max)
        if period == by:
            yield Bin(start, end, number, _label(start, by))
        else:
            inner_last = min(last, end - timedelta(microseconds=1))
            yield from _look_into(counter, by, level + 1, max(first, start), inner_last, empty=number == 0)
        start = end


def _floor(moment: datetime, period: Period) -> datetime:
    depth = _PERIODS.index(period)
    month, day, hour = moment.month if depth else 1, moment.day if depth > 1 else 1, moment.hour if depth > 2 else 0
    return datetime(moment.year, month, day, hour)


def _next(start: datetime, period: Period) -> datetime:
    """Where the period after the one that begins at `start` begins; the last moment of the calendar after its last."""
    if period == "hour":
        return start + timedelta(hours=1) if start < datetime.max - timedelta(hours=1) else datetime.max
    if period == "day":
        return start + timedelta(days=1) if start < datetime.max - timedelta(days=1) else datetime.max
    months = start.year * 12 + start.month - 1 + (12 if period == "year" else 1)
    year, month = divmod(months, 12)
    return start.replace(year=year, month=month + 1) if year <= datetime.max.year else datetime.max


def _label(moment: datetime, period: Period) -> str:
    return moment.isoformat()[: _LENGTHS[period]]


def _count_between(first: datetime, last: datetime, period: Period) -> int:
    if period == "year":
        return last.year - first.year + 1
    if period == "month":
        return (last.year - first.year) * 12 + last.month - first.month + 1
    return (last - first) // timedelta(hours=1 if period == "hour" else 24) + 1
