"""Plans carried out: what gives points over the shard alone, what joins or scores again the points of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.store.edge.convert.filters import to_filter
from clip_qdrant.store.edge.convert.ordering import to_order_by
from clip_qdrant.store.edge.convert.queries.params import to_search_params, to_threshold
from clip_qdrant.store.edge.convert.queries.plan import FUSIONS, QueryPlan
from clip_qdrant.store.edge.convert.queries.scoring import is_lower_better, to_scoring
from clip_qdrant.store.edge.entry import CollectionEntry
from clip_qdrant.store.edge.search.diversity import diversify
from clip_qdrant.store.edge.search.fusion import fuse
from clip_qdrant.store.edge.search.ranking import (
    Place,
    RankedQuery,
    Window,
    fill_places,
    read_pages,
    read_places,
)

__all__ = ["merge_filters", "run_plans"]


def run_plans(
    shard: engine.EdgeShard, entry: CollectionEntry, asked: Sequence[tuple[QueryPlan, Window]]
) -> list[list[models.ScoredPoint]]:
    """A page of what each plan gives; those that need nothing of others in one call of the engine.

    The plans name no point ids any more (`lookup.py`).
    """
    rankings = [_rank(shard, entry, plan, None, page.offset + page.limit) for plan, page in asked]
    pages = [page for _, page in asked]
    native = [
        (ranking, page) for ranking, page in zip(rankings, pages, strict=True) if isinstance(ranking, RankedQuery)
    ]
    found = iter(read_pages(shard, native))
    return [
        next(found)
        if isinstance(ranking, RankedQuery)
        else fill_places(shard, ranking[page.offset : page.offset + page.limit], page)
        for ranking, page in zip(rankings, pages, strict=True)
    ]


def _rank(
    shard: engine.EdgeShard, entry: CollectionEntry, plan: QueryPlan, outer: models.Filter | None, number: int
) -> RankedQuery | list[Place]:
    """What the engine is to be asked, or at least the first `number` places where it was asked for parts already.

    A filter holds for the prefetches below it too, as on a server, which lets their limits count what passes alone.
    """
    wanted = merge_filters(outer, plan.filter)
    if isinstance(plan.query, FUSIONS):
        fused = fuse(plan.query, _read_prefetches(shard, entry, plan.prefetch, wanted))
        least = to_threshold(plan.score_threshold, lower_is_better=False)
        return fused if least is None else [place for place in fused if place.score > least]
    condition, prefetches = to_filter(wanted), []
    if isinstance(plan.query, models.FormulaQuery):
        prefetches = [_to_prefetch(shard, entry, one, wanted) for one in plan.prefetch]
        condition = None  # in each prefetch already
    elif plan.prefetch:
        found = _read_prefetches(shard, entry, plan.prefetch, wanted)
        condition = _keep_ids(condition, {place.id for places in found for place in places})
    if isinstance(plan.query, models.OrderByQuery):
        query: Any = to_order_by(plan.query.order_by, shard.info().payload_schema)
    else:
        query = to_scoring(plan, entry)
    ranking = RankedQuery(
        query,
        condition,
        to_search_params(plan.params),
        to_threshold(plan.score_threshold, lower_is_better=is_lower_better(plan, entry)),
        prefetches,
    )
    return _diversify(shard, ranking, number) if _is_sparse_mmr(ranking.query, entry) else ranking


def _is_sparse_mmr(query: Any, entry: CollectionEntry) -> bool:
    return isinstance(query, engine.Mmr) and query.using in entry.sparse


def _diversify(shard: engine.EdgeShard, ranking: RankedQuery, number: int) -> list[Place]:
    mmr = ranking.query
    nearest = replace(ranking, query=engine.Query.Nearest(mmr.vector, mmr.using))
    (candidates,) = read_places(shard, [(nearest, mmr.candidates_limit)])
    return diversify(shard, candidates, mmr.vector, using=mmr.using, diversity=1 - mmr.lambda_, number=number)


def _keep_ids(condition: engine.Filter | None, ids: set[Any]) -> engine.Filter:
    some: list[Any] = [engine.HasIdCondition(ids)]
    return engine.Filter(must=[*some, *([condition] if condition is not None else [])])


def _read_prefetches(
    shard: engine.EdgeShard, entry: CollectionEntry, prefetch: Sequence[QueryPlan], outer: models.Filter | None
) -> list[list[Place]]:
    rankings = [_rank(shard, entry, one, outer, one.limit) for one in prefetch]
    limits = [one.limit for one in prefetch]
    native = [
        (ranking, limit) for ranking, limit in zip(rankings, limits, strict=True) if isinstance(ranking, RankedQuery)
    ]
    found = iter(read_places(shard, native))
    return [
        next(found) if isinstance(ranking, RankedQuery) else ranking[:limit]
        for ranking, limit in zip(rankings, limits, strict=True)
    ]


def _to_prefetch(
    shard: engine.EdgeShard, entry: CollectionEntry, plan: QueryPlan, outer: models.Filter | None
) -> engine.Prefetch:
    """A prefetch of a formula: only the engine joins its scores with the payload."""
    if isinstance(plan.query, FUSIONS):
        wanted = merge_filters(outer, plan.filter)
        return engine.Prefetch(
            limit=plan.limit,
            query=to_scoring(plan, entry),
            prefetches=[_to_prefetch(shard, entry, one, wanted) for one in plan.prefetch],
            score_threshold=to_threshold(plan.score_threshold, lower_is_better=False),
        )
    ranking = _rank(shard, entry, plan, outer, plan.limit)
    if isinstance(ranking, list):  # chosen by MMR, with the scores of a search
        chosen = {place.id for place in ranking[: plan.limit]}
        nearest = models.NearestQuery.model_construct(nearest=plan.query.nearest, mmr=None)
        ranking = RankedQuery(
            to_scoring(replace(plan, query=nearest), entry), _keep_ids(None, chosen), to_search_params(plan.params)
        )
    return engine.Prefetch(
        limit=plan.limit,
        query=ranking.query,
        prefetches=ranking.prefetches,
        params=ranking.params,
        filter=ranking.filter,
        score_threshold=ranking.threshold,
    )


def merge_filters(outer: models.Filter | None, inner: models.Filter | None) -> models.Filter | None:
    """Both filters in one, clause by clause as a server merges them: what one says under `should` is another way to
    pass that of the other.
    """
    if outer is None or inner is None:
        return inner if outer is None else outer
    least = [one.min_should for one in (outer, inner) if one.min_should is not None]
    both = models.MinShould.model_construct(
        conditions=[condition for one in least for condition in one.conditions],
        min_count=max((one.min_count for one in least), default=0),
    )
    return models.Filter.model_construct(
        must=_join(outer.must, inner.must),
        should=_join(outer.should, inner.should),
        must_not=_join(outer.must_not, inner.must_not),
        min_should=both if least else None,
    )


def _join(*clauses: Any) -> list[Any] | None:
    some = [clause if isinstance(clause, list) else [clause] for clause in clauses if clause is not None]
    return [condition for clause in some for condition in clause] if some else None
