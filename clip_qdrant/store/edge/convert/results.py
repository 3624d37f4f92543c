"""What the engine gives back: stored points, and points with a score."""

from __future__ import annotations

from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.store.edge.convert.ids import from_point_id

__all__ = ["from_record", "from_scored"]


def from_record(record: engine.Record) -> models.Record:
    """A stored point."""
    return models.Record(id=from_point_id(record.id), payload=record.payload, vector=_dense(record.vector))


def from_scored(point: engine.ScoredPoint) -> models.ScoredPoint:
    """A stored point with its score."""
    return models.ScoredPoint(
        id=from_point_id(point.id),
        version=point.version,
        score=point.score,
        payload=point.payload,
        vector=_dense(point.vector),
    )


def _dense(vector: Any) -> list[float] | None:
    # No collection here has any other kind.
    return vector if vector is None else list(vector)
