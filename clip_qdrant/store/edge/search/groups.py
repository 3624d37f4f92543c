"""Points in groups by a payload field: the best points of the groups that come first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import qdrant_edge as engine
from qdrant_client import models
from qdrant_client.local.payload_value_extractor import value_by_key

from clip_qdrant.store.edge.convert.ids import to_point_id
from clip_qdrant.store.edge.convert.queries.plan import QueryPlan
from clip_qdrant.store.edge.convert.results import from_vectors
from clip_qdrant.store.edge.entry import CollectionEntry
from clip_qdrant.store.edge.search.ranking import Window
from clip_qdrant.store.edge.search.run import merge_filters, run_plans

__all__ = ["find_groups"]

# Points may be very many that are in no group, and an MMR prefetch chooses among no more candidates than it says.
_MORE_ROUNDS = 5

_Groups = dict[int | str, list[models.ScoredPoint]]


def find_groups(
    shard: engine.EdgeShard, entry: CollectionEntry, plan: QueryPlan, group_by: str, group_size: int, page: Window
) -> list[models.PointGroup]:
    """The first `plan.limit` groups and the first `group_size` points of each, in the order of the plan.

    A point is in the group of each of its values; where one of these is neither text nor a whole number, in none.
    """
    # As on a server. Points without one, which may be most, would be looked through all the same.
    has_value = models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key=group_by))])
    plan = replace(plan, filter=merge_filters(plan.filter, has_value))
    if _is_rescored(plan):
        found = _group_rescored(shard, entry, plan, group_by, group_size)
    elif plan.prefetch or _is_drawn(plan.query):
        found = _group_whole(shard, entry, plan, group_by, group_size)
    else:
        found = _group_by_pages(shard, entry, plan, group_by, group_size)
    _read_hits(shard, [hit for hits in found.values() for hit in hits], page)
    return [models.PointGroup.model_construct(id=value, hits=hits, lookup=None) for value, hits in found.items()]


def _is_drawn(query: Any) -> bool:
    """Whether a filter changes which of the remaining points come next: then there are no further pages."""
    return isinstance(query, models.SampleQuery) or (isinstance(query, models.NearestQuery) and query.mmr is not None)


def _group_whole(
    shard: engine.EdgeShard, entry: CollectionEntry, plan: QueryPlan, group_by: str, group_size: int
) -> _Groups:
    """Groups of all points that a plan gives: its prefetches give `group_size` times as many, as on a server."""
    limit = plan.limit * group_size
    if plan.prefetch:
        plan = _enlarge(plan, group_size)
        limit = sum(one.limit for one in plan.prefetch)
    elif isinstance(plan.query, models.SampleQuery):
        limit = max(shard.info().points_count, 1)
    elif plan.query.mmr.candidates_limit:
        limit = plan.query.mmr.candidates_limit
    return _take(_group(shard, entry, replace(plan, limit=limit), group_by, group_size), plan.limit)


def _is_rescored(plan: QueryPlan) -> bool:
    """Whether prefetches only choose points, each of which has a score of its own."""
    own = (models.NearestQuery, models.RecommendQuery, models.DiscoverQuery, models.ContextQuery)
    return bool(plan.prefetch) and isinstance(plan.query, own) and not _is_drawn(plan.query)


def _group_rescored(
    shard: engine.EdgeShard, entry: CollectionEntry, plan: QueryPlan, group_by: str, group_size: int
) -> _Groups:
    """Groups of the points that prefetches choose, by the scores of the plan's own query.

    They choose again, more each time, among points not chosen yet that may be in other groups, until there are enough
    groups; at last for each group that is short of points. A server goes on like this too, and as often.
    """
    plan = more = _enlarge(plan, group_size)
    groups: _Groups = {}
    (points,) = _choose(shard, entry, plan, group_by, [None])
    _sort_into(groups, points, group_by, group_size)
    chosen = {point.id for point in points}
    for _ in range(_MORE_ROUNDS):
        if not points or len(groups) >= plan.limit:
            break
        more = _enlarge(more, 4)
        unseen = models.Filter(must_not=[models.HasIdCondition(has_id=list(chosen))])
        (points,) = _choose(shard, entry, more, group_by, [merge_filters(_is_other(group_by, list(groups)), unseen)])
        if points:
            chosen |= {point.id for point in points}
            groups = _group(shard, entry, _only(plan, chosen), group_by, group_size)
    groups = _take(groups, plan.limit)
    short = [_is_one(group_by, value) for value, hits in groups.items() if len(hits) < group_size]
    if not short:
        return groups
    known = [hit for hits in groups.values() for hit in hits]
    ids = {point.id for points in [known, *_choose(shard, entry, plan, group_by, short)] for point in points}
    filled = _group(shard, entry, _only(plan, ids), group_by, group_size)
    return {value: hits for value, hits in filled.items() if value in groups}


def _choose(
    shard: engine.EdgeShard,
    entry: CollectionEntry,
    plan: QueryPlan,
    group_by: str,
    among: Sequence[models.Filter | None],
) -> list[list[models.ScoredPoint]]:
    """All points that the prefetches of a plan give, of those that pass each of the filters."""
    limit = sum(one.limit for one in plan.prefetch)
    asked = [replace(plan, filter=merge_filters(plan.filter, one), limit=limit) for one in among]
    return run_plans(shard, entry, [(one, _page_of(group_by, limit)) for one in asked])


def _only(plan: QueryPlan, ids: Collection[Any]) -> QueryPlan:
    """The plan's own query over these points."""
    these = models.Filter(must=[models.HasIdCondition(has_id=list(ids))])
    return replace(plan, prefetch=(), filter=these, limit=len(ids))


def _enlarge(plan: QueryPlan, factor: int) -> QueryPlan:
    several = (replace(_enlarge(one, factor), limit=one.limit * factor) for one in plan.prefetch)
    return replace(plan, prefetch=tuple(several))


def _group_by_pages(
    shard: engine.EdgeShard, entry: CollectionEntry, plan: QueryPlan, group_by: str, group_size: int
) -> _Groups:
    """Groups of all points: those seen first, then the next among points of others, until there are enough; at last
    the points of each that were not seen yet.
    """
    groups: _Groups = {}
    whole: set[int | str] = set()
    size = plan.limit * group_size
    while len(groups) < plan.limit:
        some = replace(plan, filter=merge_filters(plan.filter, _is_other(group_by, list(groups))), limit=size)
        (points,) = run_plans(shard, entry, [(some, _page_of(group_by, size))])
        known = set(groups)
        fresh: _Groups = {}
        _sort_into(fresh, points, group_by, group_size, known)
        groups |= _take(fresh, plan.limit - len(groups))
        if len(points) < size:
            whole |= set(fresh)
            break
        if not fresh:  # points of no group, or of a known one too
            size *= 4
    missing = [value for value, hits in groups.items() if len(hits) < group_size and value not in whole]
    size = group_size
    while missing:
        asked = [
            (
                replace(plan, filter=merge_filters(plan.filter, _is_one(group_by, value)), limit=size),
                _page_of(group_by, size),
            )
            for value in missing
        ]
        short = []
        for value, points in zip(missing, run_plans(shard, entry, asked), strict=True):
            hits = [point for point in points if value in _values(point, group_by)][:group_size]
            if len(hits) < group_size and len(points) == size:
                short.append(value)  # some of them are in no group: they have another value too, which makes none
            elif len(hits) < len(groups[value]):  # a payload index of another type: it passes over this value
                number = max(shard.info().points_count, 1)
                return _take(_group(shard, entry, replace(plan, limit=number), group_by, group_size), plan.limit)
            else:
                groups[value] = hits
        missing, size = short, size * 4
    return groups


def _group(shard: engine.EdgeShard, entry: CollectionEntry, plan: QueryPlan, group_by: str, group_size: int) -> _Groups:
    """Groups of all the points that a plan gives, `plan.limit` of them."""
    groups: _Groups = {}
    (points,) = run_plans(shard, entry, [(plan, _page_of(group_by, plan.limit))])
    _sort_into(groups, points, group_by, group_size)
    return groups


def _take(groups: _Groups, number: int) -> _Groups:
    return dict(list(groups.items())[:number])


def _page_of(group_by: str, limit: int) -> Window:
    return Window(limit, with_payload=[group_by.removesuffix("[]")])


def _is_other(group_by: str, known: Sequence[int | str]) -> models.Filter | None:
    """Points that may have a value that is none of these.

    One that has a known value too is found by MatchExcept, unless the payload index is of another type; one that has
    none is found whatever the index. More points than wanted cost time, fewer would cost groups.
    """
    texts = [value for value in known if isinstance(value, str)]
    numbers = [value for value in known if isinstance(value, int)]
    lists = [values for values in (texts, numbers) if values]
    if not lists:
        return None
    has_known: list[Any] = [models.FieldCondition(key=group_by, match=models.MatchAny(any=values)) for values in lists]
    has_other = [
        models.FieldCondition(key=group_by, match=models.MatchExcept(**{"except": values})) for values in lists
    ]
    return models.Filter(must=[models.Filter(should=[models.Filter(must_not=has_known), *has_other])])


def _is_one(group_by: str, value: int | str) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=group_by, match=models.MatchValue(value=value))])


def _sort_into(
    groups: _Groups,
    points: Sequence[models.ScoredPoint],
    group_by: str,
    group_size: int,
    known: set[int | str] | None = None,
) -> None:
    for point in points:
        for value in _values(point, group_by):
            if known is None or value not in known:
                hits = groups.setdefault(value, [])
                if len(hits) < group_size:
                    hits.append(point.model_copy())


def _values(point: models.ScoredPoint, group_by: str) -> list[int | str]:
    values = value_by_key(point.payload or {}, group_by) or []
    if any(type(value) not in (int, str) for value in values):  # a bool is an int too
        return []
    return list(dict.fromkeys(values))


def _read_hits(shard: engine.EdgeShard, hits: Sequence[models.ScoredPoint], page: Window) -> None:
    """Give the hits the payload and vectors that are wanted, in place of the field by which they were grouped."""
    ids: list[Any] = [to_point_id(one) for one in dict.fromkeys(hit.id for hit in hits)]
    wants = page.with_payload is not False or page.with_vector is not False
    stored = {record.id: record for record in shard.retrieve(ids, page.with_payload, page.with_vector)} if wants else {}
    for hit in hits:
        record = stored.get(to_point_id(hit.id))
        hit.payload = record.payload if record is not None else None
        hit.vector = from_vectors(record.vector) if record is not None else None
