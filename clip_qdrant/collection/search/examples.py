"""Rankings by examples: what is like some images and unlike others, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from qdrant_client import models

from clip_qdrant.collection.points import id_of
from clip_qdrant.collection.query import Query, QueryVector
from clip_qdrant.collection.relevance.scale import measure_text_share
from clip_qdrant.collection.search.ranking import Ranking
from clip_qdrant.errors import QueryError

__all__ = ["Strategy", "rank_by_context", "rank_by_examples"]

Strategy = Literal["average", "best", "sum"]
_STRATEGIES = {"best": models.RecommendStrategy.BEST_SCORE, "sum": models.RecommendStrategy.SUM_SCORES}
Evaluate = Callable[[Sequence[Query]], Sequence[QueryVector]]


def rank_by_examples(
    positive: Sequence[Query], negative: Sequence[Query], strategy: Strategy, evaluate: Evaluate
) -> Ranking:
    """By likeness to examples. "average" compares with twice the mean of the positive less that of the negative ones,
    "best" with the nearest example, "sum" with each (https://qdrant.tech/documentation/concepts/explore/).
    """
    if strategy not in get_args(Strategy):
        choices = ", ".join(map(repr, get_args(Strategy)))
        raise QueryError(f"strategy must be one of {choices}, not {strategy!r}")
    if not positive and not (negative and strategy != "average"):
        way_out = "" if strategy != "average" else '; strategy="best" does with negative ones alone'
        raise QueryError(f"there is nothing to recommend by: give positive examples{way_out}")
    made = evaluate([*positive, *negative])
    near, far = made[: len(positive)], made[len(positive) :]
    without = _names([*positive, *negative])
    if strategy != "average":
        wanted = models.RecommendInput(
            positive=[one.vector.tolist() for one in near] or None,
            negative=[one.vector.tolist() for one in far] or None,
            strategy=_STRATEGIES[strategy],
        )
        return Ranking(query=models.RecommendQuery(recommend=wanted), without=without, by="examples")
    weighted = [((2 if far else 1) / len(near), one) for one in near] + [(-1 / len(far), one) for one in far]
    total = np.sum([weight * one.vector.astype(np.float64) for weight, one in weighted], axis=0)
    length = float(np.linalg.norm(total))
    if not length > 0:
        raise QueryError("the positive and negative examples cancel, which leaves nothing to search for")
    parts: dict[str, np.ndarray] = {}
    for weight, one in weighted:
        for name, part in one.parts.items():
            share = (weight / length * part).astype(np.float32)
            parts[name] = parts[name] + share if name in parts else share
    texts = measure_text_share([term for query in (*positive, *negative) for term in query.terms])
    strength = float(np.mean([one.strength for one in made]))
    vector = (total / length).astype(np.float32)
    return Ranking.by_vector(vector, without=without, parts=parts, texts=texts, strength=strength)


def rank_by_context(target: Query | None, context: Sequence[tuple[Query, Query]], evaluate: Evaluate) -> Ranking:
    """By which side of each pair a point lies on, and then by likeness to the target, where there is one."""
    if not context:
        raise QueryError("there is no context: give pairs of what to be near to and what to be far from")
    queries = [*([target] if target else []), *(one for pair in context for one in pair)]
    vectors = [one.vector.tolist() for one in evaluate(queries)]
    start = vectors.pop(0) if target else None
    pairs = [
        models.ContextPair(positive=near, negative=far) for near, far in zip(vectors[::2], vectors[1::2], strict=True)
    ]
    query: Any = models.ContextQuery(context=pairs)
    if start is not None:
        query = models.DiscoverQuery(discover=models.DiscoverInput(target=start, context=pairs))
    return Ranking(query=query, without=_names(queries), by="examples")


def _names(queries: Iterable[Query]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(id_of(name) for query in queries for name in query.names()))
