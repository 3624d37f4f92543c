"""How a search is done: exactly or not, over compressed vectors, and from what its scores count words."""

from __future__ import annotations

import math

import numpy as np
import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest
from clip_qdrant.store.edge.convert.filters import to_filter
from clip_qdrant.store.edge.convert.queries.plan import check_number

__all__ = ["to_search_params", "to_threshold"]

# How far a score may be off by rounding, in parts of it: sums of hundreds of float32 products end some steps of 6e-8
# from the true one, and of two equal vectors not at 1.
_ROUNDING = 1e-6

# An optimized collection has its vectors as bytes too. Twice as many candidates as are wanted, compared by the vectors
# themselves, are those that comparing with every vector gives, and have their scores. The engine's own defaults give
# 95 % of them, and scores of bytes. Elsewhere it changes nothing.
_OVER_BYTES = engine.QuantizationSearchParams(rescore=True, oversampling=2.0)
# How many candidates an index keeps while it looks. With the engine's 100 it finds 95.7 % of the ten nearest of a
# million images, with 256 99.0 %, in 2 ms. Nothing is looked up that way where there is no index.
_HNSW_EF = 256


def to_search_params(params: models.SearchParams | None) -> engine.SearchParams | None:
    """The parameters as the engine takes them. Raises InvalidRequest for a hnsw_ef that it cannot hold."""
    if params is None:
        return engine.SearchParams(hnsw_ef=_HNSW_EF, quantization=_OVER_BYTES)
    quantization, acorn = params.quantization, params.acorn
    return engine.SearchParams(
        hnsw_ef=_HNSW_EF if params.hnsw_ef is None else check_number("hnsw_ef", params.hnsw_ef, 0),
        exact=bool(params.exact),
        indexed_only=bool(params.indexed_only),
        quantization=engine.QuantizationSearchParams(
            bool(quantization.ignore), quantization.rescore, quantization.oversampling
        )
        if quantization
        else _OVER_BYTES,
        acorn=engine.AcornSearchParams(bool(acorn.enable), acorn.max_selectivity) if acorn else None,
        idf=engine.IdfParams(to_filter(params.idf.corpus)) if isinstance(params.idf, models.IdfCorpusParams) else None,
    )


def to_threshold(threshold: float | None, *, lower_is_better: bool) -> float | None:
    """The threshold of the engine, which leaves out the scores that equal it: moved by no more than rounding moves
    scores, so that those are in. Raises InvalidRequest unless it is a finite number.
    """
    if threshold is None:
        return None
    try:
        value = float(threshold)
    except (TypeError, ValueError):
        value = math.nan
    if math.isnan(value):
        raise InvalidRequest(f"score_threshold is {threshold!r}: it must be a number")
    slack = abs(value) * _ROUNDING
    away = np.float32(np.inf if lower_is_better else -np.inf)
    with np.errstate(over="ignore"):
        moved = np.float32(value + slack if lower_is_better else value - slack)
    return float(np.nextafter(moved, away))
