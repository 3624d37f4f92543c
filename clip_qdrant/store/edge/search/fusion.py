"""Rankings joined into one: by the places of their points, or by scores made alike.

In Python, not by the engine, as places are only settled where equal scores are.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt
from typing import Any

from qdrant_client import models

from clip_qdrant.store.edge.convert.queries.scoring import RRF_K
from clip_qdrant.store.edge.search.ranking import Place, place_key

__all__ = ["fuse"]


def fuse(query: models.FusionQuery | models.RrfQuery, rankings: Sequence[Sequence[Place]]) -> list[Place]:
    """All points of the rankings, those with the highest sums first, equal ones in the order of their ids."""
    if isinstance(query, models.RrfQuery):
        shares = [
            _share_by_place(ranking, query.rrf.k or RRF_K, query.rrf.weights[at] if query.rrf.weights else 1.0)
            for at, ranking in enumerate(rankings)
        ]
    elif query.fusion == models.Fusion.RRF:
        shares = [_share_by_place(ranking, RRF_K, 1.0) for ranking in rankings]
    else:
        shares = [_share_by_score(ranking) for ranking in rankings]
    parts: dict[Any, list[float]] = {}
    versions: dict[Any, int] = {}
    for ranking, of_ranking in zip(rankings, shares, strict=True):
        for place, share in zip(ranking, of_ranking, strict=True):
            parts.setdefault(place.id, []).append(share)
            versions[place.id] = place.version
    # fsum: the same shares make the same sum in whichever order they come.
    fused = [Place(key, fsum(some), None, versions[key]) for key, some in parts.items()]
    return sorted(fused, key=lambda place: (-place.score, place_key(place)))


def _share_by_place(ranking: Sequence[Place], k: int, weight: float) -> list[float]:
    """Reciprocal rank fusion: Cormack et al., SIGIR 2009; with weights as Qdrant has them."""
    if weight <= 0:
        return [0.0] * len(ranking)
    return [1 / ((at + 1) / weight + k - 1) for at in range(len(ranking))]


def _share_by_score(ranking: Sequence[Place]) -> list[float]:
    """Distribution-based score fusion: three standard deviations around the mean become 0 to 1."""
    scores = [place.score for place in ranking]
    if len(scores) < 2:
        return [0.5] * len(scores)
    mean = fsum(scores) / len(scores)
    deviation = sqrt(fsum((score - mean) ** 2 for score in scores) / (len(scores) - 1))
    if deviation == 0:
        return [0.5] * len(scores)
    return [(score - mean + 3 * deviation) / (6 * deviation) for score in scores]
