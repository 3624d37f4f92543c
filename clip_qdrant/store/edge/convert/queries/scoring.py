"""What gives a point its score or its place: a query as the engine takes it."""

from __future__ import annotations

from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest, UnsupportedByEdge
from clip_qdrant.store.edge.convert.queries.examples import average, replace_vectors
from clip_qdrant.store.edge.convert.queries.formula import to_formula
from clip_qdrant.store.edge.convert.queries.plan import QueryPlan
from clip_qdrant.store.edge.convert.vectors import to_query_vector
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = ["RRF_K", "is_lower_better", "to_scoring"]

RRF_K = 2  # that of a server


def is_lower_better(plan: QueryPlan, entry: CollectionEntry) -> bool:
    """Whether thresholds are distances, of which the smaller ones pass."""
    if plan.using is not None and isinstance(plan.query, models.TextQuery):
        return False  # `using` names a field
    params = entry.dense.get(plan.using or "")
    return params is not None and params.distance in (models.Distance.EUCLID, models.Distance.MANHATTAN)


def to_scoring(plan: QueryPlan, entry: CollectionEntry) -> Any:
    """The query of a plan, which names no point ids any more. The order by a field is that of `ordering.py`.

    Raises InvalidPoint for a vector that does not fit its collection, InvalidRequest for what makes no query.
    """
    using = plan.using or ""
    if type(plan.query) is models.NearestQuery and plan.query.mmr is None:  # nearly all there are: no detours
        return engine.Query.Nearest(to_query_vector(plan.query.nearest, entry, using), using)
    # From here on the vectors are those of the engine, which the models say nothing of.
    query: Any = replace_vectors(plan.query, lambda vector: to_query_vector(vector, entry, using))
    match query:
        case None:
            return None
        case models.NearestQuery(mmr=models.Mmr() as mmr):
            diversity = 0.5 if mmr.diversity is None else mmr.diversity
            candidates = plan.limit if mmr.candidates_limit is None else mmr.candidates_limit
            target: Any = query.nearest
            return engine.Mmr(target, 1 - diversity, candidates, using)
        case models.RecommendQuery():
            return _recommend(query.recommend, plan.query.recommend, entry, using)
        case models.DiscoverQuery(discover=asked):
            target = asked.target
            return engine.Query.Discover(engine.DiscoverQuery(target, _pairs(asked.context)), using)
        case models.ContextQuery():
            return engine.Query.Context(engine.ContextQuery(_pairs(query.context)), using)
        case models.RelevanceFeedbackQuery():
            return _feedback(query.relevance_feedback, using)
        case models.SampleQuery():
            return engine.Sample.Random
        case models.FormulaQuery():
            return to_formula(query)
        case models.TextQuery():
            return _text(query, using)
        case models.RrfQuery():
            return engine.Fusion.Rrf(query.rrf.k or RRF_K, query.rrf.weights)
        case models.FusionQuery():
            return engine.Fusion.Dbsf() if query.fusion == models.Fusion.DBSF else engine.Fusion.Rrf(RRF_K)
    raise UnsupportedByEdge(f"queries of type {type(query).__name__}")


def _recommend(
    asked: models.RecommendInput, raw: models.RecommendInput, entry: CollectionEntry, using: str
) -> engine.Query:
    """`raw` is what is asked before its vectors were made to fit."""
    positive: list[Any] = asked.positive or []
    negative: list[Any] = asked.negative or []
    strategy = models.RecommendStrategy(asked.strategy or models.RecommendStrategy.AVERAGE_VECTOR)
    if strategy is models.RecommendStrategy.AVERAGE_VECTOR:
        if not positive:
            raise InvalidRequest("recommend without positive examples: the strategy average_vector needs at least one")
        if isinstance(positive[0], list) and not isinstance(positive[0][0], list):
            # Not those of norm 1: as on a server a longer vector counts for more.
            positive, negative = raw.positive or [], raw.negative or []
        mean = to_query_vector(average(positive, negative), entry, using, "the average of the examples")
        return engine.Query.Nearest(mean, using)
    if not positive and not negative:
        raise InvalidRequest("recommend without examples: give positive or negative ones")
    examples = engine.RecommendQuery(positive, negative)
    if strategy is models.RecommendStrategy.BEST_SCORE:
        return engine.Query.RecommendBestScore(examples, using)
    return engine.Query.RecommendSumScores(examples, using)


def _pairs(context: Any) -> list[engine.ContextPair]:
    return [engine.ContextPair(pair.positive, pair.negative) for pair in context]


def _feedback(asked: models.RelevanceFeedbackInput, using: str) -> engine.Query:
    weights = asked.strategy.naive
    items = [engine.FeedbackItem(item.example, item.score) for item in asked.feedback]  # type: ignore[arg-type]  # replaced
    strategy = engine.NaiveFeedbackStrategy(weights.a, weights.b, weights.c)
    return engine.Query.FeedbackNaive(engine.FeedbackNaiveQuery(asked.target, items, strategy), using)  # type: ignore[arg-type]  # replaced


def _text(query: models.TextQuery, field: str) -> engine.TextQuery:
    if isinstance(query.text, str):
        return engine.TextQuery(field, query.text)
    scoring = query.text.scoring.bm25 if query.text.scoring is not None else models.Bm25Params()
    if scoring.k is not None and scoring.k < 0:
        raise InvalidRequest(f"k of the text query is {scoring.k}: it must not be negative")
    if scoring.b is not None and not 0 <= scoring.b <= 1:
        raise InvalidRequest(f"b of the text query is {scoring.b}: it must be from 0 to 1")
    return engine.TextQuery(field, query.text.query, engine.Bm25Params(scoring.k, scoring.b))
