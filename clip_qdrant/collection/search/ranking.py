"""Ranking: by what the points of a collection are put in order, as `query_points` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from qdrant_client import models

__all__ = ["Ranking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """`query`, `prefetch` and `using` are those of `query_points`; a prefetch holds its own filter already.

    `without` are the ids of points that are never in the result. `vector` is the unit vector that hits are compared
    with, float32 (dim,), where there is one; `parts` are the terms that add up to it, by what they are called, and
    `texts` is the share of texts in it, 0 to 1, where that is known, and `strength` that of its terms. `words` are
    looked for too, and are part of the query then. `by` tells what the scores of hits are: cosine similarities, what
    the store counts from several examples, the weight of words (BM25), or likeness and words brought together. `found`
    are then the two of a point, by its id, as far as they are known.
    """

    query: Any
    prefetch: tuple[models.Prefetch, ...] = ()
    using: str | None = None
    without: tuple[str, ...] = ()
    vector: np.ndarray | None = None
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: float | None = None
    strength: float = 1.0
    words: models.SparseVector | None = None
    by: Literal["likeness", "examples", "words", "both"] = "likeness"
    found: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def by_vector(
        cls,
        vector: np.ndarray,
        *,
        without: tuple[str, ...] = (),
        parts: Mapping[str, np.ndarray] | None = None,
        texts: float | None = None,
        strength: float = 1.0,
    ) -> Ranking:
        """By cosine similarity to a unit vector, float32 (dim,)."""
        return cls(
            query=vector.tolist(), without=without, vector=vector, parts=parts or {}, texts=texts, strength=strength
        )
