"""What the engine gives back: stored points, and points with a score."""

from __future__ import annotations

from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.store.edge.convert.ids import from_point_id

__all__ = ["from_record", "from_scored", "from_vectors"]


def from_record(record: engine.Record, order_value: int | float | None = None) -> models.Record:
    """A stored point, with the value by which it was ordered. Not validated: that takes as long as reading it."""
    return models.Record.model_construct(
        id=from_point_id(record.id),
        payload=record.payload,
        vector=from_vectors(record.vector),
        shard_key=None,
        order_value=record.order_value if order_value is None else order_value,
    )


def from_scored(point: engine.ScoredPoint) -> models.ScoredPoint:
    """A stored point with its score."""
    made = models.ScoredPoint(
        id=from_point_id(point.id),
        version=point.version,
        score=point.score,
        payload=point.payload,
        order_value=point.order_value,
    )
    if point.vector is not None:
        made.vector = from_vectors(point.vector)  # not validated: that would take longer than all the rest
    return made


def from_vectors(vector: Any) -> Any:
    """The vectors of a point: a list where it has the unnamed one alone, else a dict by name."""
    if isinstance(vector, dict):
        ordered = sorted(vector.items())  # the engine has them in any order
        vectors = {name: _sparse(one) if isinstance(one, engine.SparseVector) else one for name, one in ordered}
        return vectors[""] if set(vectors) == {""} else vectors
    return vector


def _sparse(vector: engine.SparseVector) -> models.SparseVector:
    return models.SparseVector.model_construct(
        indices=list(vector.indices), values=[float(value) for value in vector.values]
    )
