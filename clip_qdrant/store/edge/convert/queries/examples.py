"""The vectors that a query names: replaced one by one, as those of point ids are, and averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import qdrant_edge as engine
from qdrant_client import models

__all__ = ["average", "replace_vectors"]


def replace_vectors(query: Any, change: Callable[[Any], Any]) -> Any:
    """The query with each of its vectors (or ids in place of them) replaced by what `change` makes of it."""
    match query:
        case models.NearestQuery():
            return models.NearestQuery.model_construct(nearest=change(query.nearest), mmr=query.mmr)
        case models.RecommendQuery(recommend=asked):
            recommended = models.RecommendInput.model_construct(
                positive=[change(one) for one in asked.positive or []],
                negative=[change(one) for one in asked.negative or []],
                strategy=asked.strategy,
            )
            return models.RecommendQuery.model_construct(recommend=recommended)
        case models.DiscoverQuery(discover=asked):
            discovered = models.DiscoverInput.model_construct(
                target=change(asked.target), context=_replace_pairs(asked.context, change)
            )
            return models.DiscoverQuery.model_construct(discover=discovered)
        case models.ContextQuery():
            return models.ContextQuery.model_construct(context=_replace_pairs(query.context, change))
        case models.RelevanceFeedbackQuery(relevance_feedback=asked):
            feedback = models.RelevanceFeedbackInput.model_construct(
                target=change(asked.target),
                feedback=[
                    models.FeedbackItem.model_construct(example=change(one.example), score=one.score)
                    for one in asked.feedback
                ],
                strategy=asked.strategy,
            )
            return models.RelevanceFeedbackQuery.model_construct(relevance_feedback=feedback)
    return query


def _replace_pairs(context: Any, change: Callable[[Any], Any]) -> list[models.ContextPair]:
    pairs = context if isinstance(context, list) else [context]
    return [
        models.ContextPair.model_construct(positive=change(pair.positive), negative=change(pair.negative))
        for pair in pairs
    ]


def average(positive: Sequence[Any], negative: Sequence[Any]) -> Any:
    """The vector between the examples, as a server averages: the mean of the positive ones, moved away from the
    mean of the negative ones by its distance to it. Of multivectors all rows, those of negative ones turned round.

    All are of one kind: lists, lists of lists, or the engine's SparseVector.
    """
    if isinstance(positive[0], engine.SparseVector):
        mean, away = _mean_sparse(positive), _mean_sparse(negative)
        if negative:
            mean = {index: 2 * mean.get(index, 0.0) - away.get(index, 0.0) for index in mean | away}
        indices = sorted(mean)
        return engine.SparseVector(indices, [mean[index] for index in indices])
    if isinstance(positive[0][0], list):
        rows = [row for vector in positive for row in vector]
        return rows + [[-value for value in row] for vector in negative for row in vector]
    centre = np.mean(np.asarray(positive, np.float64), axis=0)
    if negative:
        centre = 2 * centre - np.mean(np.asarray(negative, np.float64), axis=0)
    return centre.tolist()


def _mean_sparse(vectors: Sequence[engine.SparseVector]) -> dict[int, float]:
    sums: dict[int, float] = {}
    for vector in vectors:
        for index, value in zip(vector.indices, vector.values, strict=True):
            sums[index] = sums.get(index, 0.0) + value
    return {index: value / len(vectors) for index, value in sums.items()}
