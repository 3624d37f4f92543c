"""MMR over sparse vectors, which the engine has for dense ones alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qdrant_edge as engine

from clip_qdrant.store.edge.search.ranking import Place

__all__ = ["diversify"]


def diversify(
    shard: engine.EdgeShard,
    candidates: Sequence[Place],
    vector: Any,
    *,
    using: str,
    diversity: float,
    number: int,
) -> list[Place]:
    """The first `number` of the candidates by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): each is
    near to the query and far from those before it. As on a server the weights of IDF do not count here.
    """
    ids: list[Any] = [place.id for place in candidates]
    stored = {record.id: _weights(record.vector, using) for record in shard.retrieve(ids, False, [using])}
    vectors = [stored[one] for one in ids]
    relevance = [_dot(_weights(vector, using), one) for one in vectors]
    nearest = [float("-inf")] * len(ids)  # of those that are chosen, the similarity of the one that is most alike
    pending = list(range(len(ids)))
    chosen: list[int] = []
    while pending and len(chosen) < number:
        if chosen:
            last = vectors[chosen[-1]]
            for at in pending:
                nearest[at] = max(nearest[at], _dot(vectors[at], last))
            best = max(pending, key=lambda at: (1 - diversity) * relevance[at] - diversity * nearest[at])
        else:
            best = max(pending, key=lambda at: relevance[at])
        pending.remove(best)
        chosen.append(best)
    return [candidates[at] for at in chosen]


def _weights(vector: Any, using: str) -> dict[int, float]:
    one = vector[using] if isinstance(vector, dict) else vector
    return dict(zip(one.indices, one.values, strict=True))


def _dot(one: dict[int, float], other: dict[int, float]) -> float:
    if len(other) < len(one):
        one, other = other, one
    return sum(value * other[index] for index, value in one.items() if index in other)
