"""Two rankings into one: images like a vector, and images that have the words, as one query of Qdrant.

Scores of the two have nothing in common, so each is brought to 0 to 1 by its own list. docs/decisions/0018 has the
figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from qdrant_client import models

from clip_qdrant.collection.text.vectors import TEXT_VECTOR

__all__ = ["CANDIDATES", "TEXT_WEIGHT", "Fusion", "fuse"]

Fusion = Literal["sum", "rrf"]
CANDIDATES = 200  # of each list
# A little more than half: so an image whose name is what was typed stands before the one that is most like it, where
# neither is in the other list.
TEXT_WEIGHT = 0.52
_RRF_K = 10


def fuse(
    vector: Sequence[float],
    words: models.SparseVector,
    near: Sequence[models.ScoredPoint],
    worded: Sequence[models.ScoredPoint],
    *,
    fusion: Fusion,
    text_weight: float,
) -> tuple[models.Query, tuple[models.Prefetch, ...]]:
    """`query` and `prefetch` of one call that ranks what was found near a vector, and by words, both best first.

    "sum" adds the two scores: 0 for the last of what is near or for no word found, 1 for the best of its list; the one
    by words counts `text_weight`, the other the rest. "rrf" adds reciprocal ranks (Cormack, Clarke and Buettcher,
    Reciprocal Rank Fusion, SIGIR 2009), weighted as Qdrant does it. The prefetches name the points: they are found
    again without a search.
    """
    prefetch = (
        _again(models.NearestQuery(nearest=list(vector)), None, near),
        _again(models.NearestQuery(nearest=words), TEXT_VECTOR, worded),
    )
    if fusion == "rrf":
        weights = [2 * (1 - text_weight), 2 * text_weight]  # of two lists that count the same: 1 each
        return models.RrfQuery(rrf=models.Rrf(k=_RRF_K, weights=weights)), prefetch
    best, last = (near[0].score, near[-1].score) if near else (1.0, 0.0)
    near_scale = (1 - text_weight) / (best - last if best > last else 1.0)
    offset = -last if best > last else 1.0 - last  # where all are equally near each is the best
    word_scale = text_weight / worded[0].score if worded and worded[0].score > 0 else 0.0
    terms: list[models.Expression] = [
        models.MultExpression(mult=[near_scale, "$score[0]"]),
        near_scale * offset,
        models.MultExpression(mult=[word_scale, "$score[1]"]),
    ]
    none = {"$score[0]": -offset, "$score[1]": 0.0}  # of those that are in one list alone
    return models.FormulaQuery(formula=models.SumExpression(sum=terms), defaults=none), prefetch


def _again(query: models.NearestQuery, using: str | None, found: Sequence[models.ScoredPoint]) -> models.Prefetch:
    chosen = models.Filter(must=[models.HasIdCondition(has_id=[point.id for point in found])])
    return models.Prefetch(query=query, using=using, filter=chosen, limit=max(1, len(found)))
