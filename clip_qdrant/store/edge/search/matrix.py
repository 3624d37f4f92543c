"""Distances between points drawn at random: each with those of the others that are nearest to it."""

from __future__ import annotations

from typing import Any

import qdrant_edge as engine

from clip_qdrant.store.edge.search.ranking import Place, RankedQuery, place_key, read_places

__all__ = ["measure_sample"]


def measure_sample(
    shard: engine.EdgeShard, condition: engine.Filter | None, *, limit: int, sample: int, using: str
) -> tuple[list[Any], list[list[Place]]]:
    """The ids of at most `sample` points, in their order, and for each its `limit` nearest among the others.

    Nothing where there are fewer than two.
    """
    has_vector: list[Any] = [engine.HasVectorCondition(using)]
    among = engine.Filter(must=[*has_vector, *([condition] if condition is not None else [])])
    drawn = shard.query(engine.QueryRequest(sample, query=engine.Sample.Random, filter=among, with_vector=[using]))
    if len(drawn) < 2:
        return [], []
    drawn.sort(key=place_key)
    ids = [point.id for point in drawn]
    asked = []
    for point in drawn:
        vector: Any = point.vector
        query = engine.Query.Nearest(vector[using] if isinstance(vector, dict) else vector, using)
        others: list[Any] = [engine.HasIdCondition({one for one in ids if one != point.id})]
        asked.append((RankedQuery(query, engine.Filter(must=others)), limit))
    return ids, read_places(shard, asked)
