"""Pages of a ranking that never repeat a point and never pass over one: equal scores are in the order of their ids.

The engine gives points of equal scores in any order, and another one for another limit. A page is asked for with one
point more at each end. Only where a score reaches over an end is more read, without payloads: as much as it takes to
see all points that have this score or, where they are very many, those with the smallest ids.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.store.edge.convert.ids import from_point_id
from clip_qdrant.store.edge.convert.ordering import to_equal_condition
from clip_qdrant.store.edge.convert.results import from_scored, from_vectors

__all__ = ["Place", "RankedQuery", "Window", "fill_places", "place_key", "read_pages", "read_places"]

# So many points are read at once to see all of an equal score; then those with the smallest ids are looked for instead.
_MOST_AT_ONCE = 8192
_IDS_AT_ONCE = 4096
_MOST = 2**63  # of what the engine takes for a limit


class Place(NamedTuple):
    """A point in a ranking, without what is stored of it. `order_value` is that of the field of order_by."""

    id: int | uuid.UUID
    score: float
    order_value: int | float | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a ranking, and what of its points is read."""

    limit: int
    offset: int = 0
    with_payload: Any = False
    with_vector: Any = False


@dataclass(frozen=True, slots=True)
class RankedQuery:
    """A query of the engine over the points of a shard."""

    query: Any
    filter: engine.Filter | None = None
    params: engine.SearchParams | None = None
    threshold: float | None = None
    prefetches: list[engine.Prefetch] = field(default_factory=list)

    @property
    def has_ties(self) -> bool:
        """Whether equal scores mean an order that is not settled: not where ids or chance, or MMR, decide."""
        return not (self.query is None or isinstance(self.query, engine.Sample | engine.Mmr))

    def request(self, page: Window) -> engine.QueryRequest:
        """The request for a page."""
        return engine.QueryRequest(
            limit=page.limit,
            offset=page.offset,
            query=self.query,
            prefetches=self.prefetches,
            with_vector=page.with_vector,
            with_payload=page.with_payload,
            filter=self.filter,
            score_threshold=self.threshold,
            params=self.params,
        )


def read_pages(shard: engine.EdgeShard, asked: Sequence[tuple[RankedQuery, Window]]) -> list[list[models.ScoredPoint]]:
    """A page of each ranking, in one call of the engine where no score reaches over an end."""
    return [
        fill_places(shard, points, page) if points and isinstance(points[0], Place) else list(map(from_scored, points))
        for points, (_, page) in zip(_read(shard, asked), asked, strict=True)
    ]


def read_places(shard: engine.EdgeShard, asked: Sequence[tuple[RankedQuery, int]]) -> list[list[Place]]:
    """The first points of each ranking, as many as are asked for."""
    answers = _read(shard, [(ranking, Window(limit)) for ranking, limit in asked])
    return [list(map(_to_place, points)) for points in answers]


def fill_places(shard: engine.EdgeShard, places: Sequence[Place], page: Window) -> list[models.ScoredPoint]:
    """The points with what of them the page asks for."""
    stored: dict[Any, engine.Record] = {}
    if places and (page.with_payload is not False or page.with_vector is not False):
        ids = list({place.id for place in places})
        stored = {record.id: record for record in shard.retrieve([*ids], page.with_payload, page.with_vector)}
    return [_to_point(place, stored.get(place.id)) for place in places]


def place_key(place: Any) -> tuple[bool, Any]:
    """What sorts points as a scroll does: numbers before UUIDs."""
    return not isinstance(place.id, int), place.id


def _read(shard: engine.EdgeShard, asked: Sequence[tuple[RankedQuery, Window]]) -> list[list[Any]]:
    """Each page: points of the engine or, where these cannot tell all of it, places."""
    requests = [ranking.request(_widen(page) if ranking.has_ties else page) for ranking, page in asked]
    if len(requests) == 1:
        answers = [shard.query(requests[0])]
    else:
        answers = shard.query_batch(engine.QueryBatchRequest(requests)) if requests else []
    return [
        _settle(shard, ranking, page, points)
        if ranking.has_ties
        # With MMR the engine gives the vectors that it compared, whatever is asked for.
        else (list(map(_to_place, points)) if isinstance(ranking.query, engine.Mmr) else points)
        for (ranking, page), points in zip(asked, answers, strict=True)
    ]


def _widen(page: Window) -> Window:
    before = min(page.offset, 1)
    limit = min(page.limit + before + 1, _MOST)
    return Window(limit, page.offset - before, page.with_payload, page.with_vector)


def _settle(shard: engine.EdgeShard, ranking: RankedQuery, page: Window, points: list[Any]) -> list[Any]:
    """The points of a page, of those that the widened one gave."""
    before = min(page.offset, 1)
    inside = points[before : before + page.limit]
    values = [_value(point) for point in points]
    if len(set(values)) == len(values):
        return inside
    starts_within = before and inside and values[0] == values[1]
    ends_within = len(points) > before + page.limit and values[-1] == values[-2]
    if not starts_within and not ends_within:
        return _sort_ties(inside)
    end = page.offset + page.limit
    return _read_through(shard, ranking, end)[page.offset : end]


def _read_through(shard: engine.EdgeShard, ranking: RankedQuery, end: int) -> list[Place]:
    """The first points of a ranking, at least `end` of them if there are as many, and no equal score cut through."""
    for size in _sizes(ranking, end):
        points = shard.query(ranking.request(Window(size)))
        if len(points) < size or _value(points[-1]) != _value(points[end - 1]):
            return list(map(_to_place, _sort_ties(points)))
    last = _value(points[end - 1])
    better = [_to_place(point) for point in _sort_ties(points[:end]) if _value(point) != last]
    return [*better, *_find_equal(shard, ranking, last, end - len(better))]


def _sizes(ranking: RankedQuery, end: int) -> list[int]:
    """How many points to read, more each time, to see all that have the score of the one at `end`."""
    if isinstance(ranking.query, engine.OrderBy):  # those of an equal value are soon found
        return [min(end, _MOST)]
    most = min(max(2 * end, _MOST_AT_ONCE), _MOST)
    first = max(2 * end, most // 8)
    return [first, most] if first < most else [most]


def _find_equal(shard: engine.EdgeShard, ranking: RankedQuery, value: float, number: int) -> Iterator[Place]:
    """The first `number` points, by their ids, that have a certain value: there are many, so they are soon found."""
    query: Any = ranking.query
    wanted, at_once = ranking.filter, _IDS_AT_ONCE
    if isinstance(query, engine.OrderBy):
        index = shard.info().payload_schema[query.key]
        wanted, at_once = _both(to_equal_condition(query, value, index), wanted), min(number, at_once)
        query = engine.OrderBy(query.key, query.direction, value)  # a point is in it once for each of its values
    start: Any = None
    while number > 0:
        records, start = shard.scroll(engine.ScrollRequest(start, at_once, wanted, False, False))
        among = _both(engine.HasIdCondition({record.id for record in records}), wanted)
        points = shard.query(replace(ranking, query=query, filter=among).request(Window(max(at_once, 1))))
        equal = [_to_place(point) for point in points if _value(point) == value]
        yield from sorted(equal, key=place_key)[:number]
        number -= len(equal)
        if start is None:
            return


def _both(condition: Any, other: engine.Filter | None) -> engine.Filter:
    return engine.Filter(must=[condition, *([other] if other is not None else [])])


def _sort_ties(points: Sequence[Any]) -> list[Any]:
    return [point for _, equal in groupby(points, _value) for point in sorted(equal, key=place_key)]


def _value(point: Any) -> Any:
    value = point.order_value
    return point.score if value is None else value


def _to_place(point: Any) -> Place:
    return Place(point.id, point.score, point.order_value, point.version)


def _to_point(place: Place, record: engine.Record | None) -> models.ScoredPoint:
    made = models.ScoredPoint(
        id=from_point_id(place.id),
        version=place.version,
        score=place.score,
        payload=record.payload if record is not None else None,
        order_value=place.order_value,
    )
    if record is not None and record.vector is not None:
        made.vector = from_vectors(record.vector)
    return made
