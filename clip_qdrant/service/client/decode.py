"""What a client gets: hits, counts and labels as the library has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from clip_qdrant.collection.edit.classify import Classification
from clip_qdrant.collection.facets.histogram import Bin, Histogram
from clip_qdrant.collection.facets.values import Facets
from clip_qdrant.collection.hits import Explanation, Facet, Hit, HitGroup, Hits

__all__ = ["decode_classification", "decode_facets", "decode_histogram", "decode_hit", "decode_hits"]

_FOUND = ("id", "score", "path", "relevance", "copies", "parts", "shares", "vector")


def decode_hit(told: Mapping[str, Any]) -> Hit:
    """The hit that `Hit.to_dict` gave."""
    payload = {name: value for name, value in told.items() if name not in _FOUND}
    vector = told.get("vector")
    return Hit(
        id=told["id"],
        score=told["score"],
        uri=payload.get("uri") or "",
        caption=payload.get("caption"),
        metadata=payload.get("metadata") or {},
        payload=payload,
        relevance=told.get("relevance"),
        copies=tuple(told.get("copies") or ()),
        parts=told.get("parts") or {},
        shares=told.get("shares") or {},
        vector=None if vector is None else np.asarray(vector, np.float32),
    )


def decode_hits(answer: Mapping[str, Any]) -> Hits:
    hits = [decode_hit(told) for told in answer["hits"]]
    by_id = {hit.id: hit for hit in hits}
    explained = answer.get("explanation")
    return Hits(
        hits,
        reason=answer.get("reason"),
        groups=[
            HitGroup(group["value"], tuple(by_id[one] for one in group["hits"])) for group in answer.get("groups") or ()
        ],
        explanation=explained
        and Explanation(explained["seconds"], explained["index"], tuple(explained.get("notes") or ())),
    )


def decode_facets(answer: Mapping[str, Any]) -> dict[str, Facets]:
    return {
        field: Facets(
            (Facet(one["value"], one["count"]) for one in told["values"]),
            more_values=told["more_values"],
            more_images=told["more_images"],
        )
        for field, told in answer["facets"].items()
    }


def decode_histogram(answer: Mapping[str, Any]) -> Histogram:
    ranges = [
        Bin(_decode_edge(one["start"]), _decode_edge(one["end"]), one["count"], one["label"]) for one in answer["bins"]
    ]
    return Histogram(ranges, missing=answer["missing"], outside=answer["outside"])


def _decode_edge(edge: float | str) -> Any:
    return datetime.fromisoformat(edge) if isinstance(edge, str) else edge


def decode_classification(answer: Mapping[str, Any]) -> Classification:
    return Classification(answer["counts"], answer["unsure"], answer["left_alone"])
