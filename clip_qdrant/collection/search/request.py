"""StoreRequest: one search as the store is asked it, page by page, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.points import dense_vector, make_hit
from clip_qdrant.collection.relevance.scale import RelevanceScale
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.collection.search.ranking import Ranking
from clip_qdrant.errors import QueryError

if TYPE_CHECKING:
    from clip_qdrant.collection.reader import CollectionReader

__all__ = ["ROUNDING", "Clock", "StoreRequest", "find_threshold", "leave_out", "search_params"]

_CANDIDATES = 100  # of which a diverse result is chosen, or which are put in order
_MATCHING = 1000  # the most that are put in order where it is known what matches
ROUNDING = 1e-6  # of a float32 cosine: a threshold of 1 finds the very same picture


class Clock:
    """Seconds by part of a search."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


class StoreRequest:
    """A ranking among the points that a filter selects, with options, for one collection.

    `payload` are the payload keys of a hit, True for all; `scale` measures the relevance of scores, and `threshold` is
    the least score of a hit. `among` is the filter as it was given, `selection` the same without what the ranking
    leaves out.
    """

    def __init__(
        self,
        reader: CollectionReader,
        ranking: Ranking,
        selection: models.Filter | None,
        options: SearchOptions,
        *,
        payload: bool | list[str],
        scale: RelevanceScale,
        clock: Clock,
    ) -> None:
        self.reader = reader
        self.ranking = ranking
        self.among = selection
        self.selection = leave_out(selection, ranking.without)
        self.options = options
        self.payload = payload
        self.scale = scale
        self.threshold = find_threshold(options, scale) if ranking.by in ("likeness", "examples") else None
        self.vectors = options.vectors or (options.explain and bool(ranking.parts))
        self.clock = clock

    @property
    def is_diverse(self) -> bool:
        return bool(self.options.diversity) and self.ranking.query is not None

    @property
    def depth(self) -> int:
        """How many of the best are looked at where the order is not that of the score alone: the same for all pages."""
        return self.options.candidates or max(_CANDIDATES, self.options.limit)

    @property
    def most_ordered(self) -> int:
        """How many of the best are put in the order of a field: of what matches, where a threshold or words say so."""
        if self.options.candidates is None and (self.threshold is not None or self.ranking.by == "words"):
            return max(_MATCHING, self.options.limit)
        return self.depth

    @property
    def most_looked_at(self) -> int | None:
        """How many of the best all pages together come from; None for as many as there are."""
        if self.ranking.query is None:
            return None
        if self.options.order_by is not None:
            return self.most_ordered
        if self.is_diverse:
            return self.depth
        return None if self.options.collapse is None or self.ranking.by == "both" else self.options.candidates

    def arguments(self) -> dict[str, Any]:
        """What each call of query_points has of it; limit, offset and what is read of a point come with the call."""
        least = None if self.threshold is None else self.threshold - ROUNDING
        return {
            "query": self._query(),
            "using": self.ranking.using,
            "prefetch": list(self.ranking.prefetch) or None,
            "search_params": None if self.reader.description.compares_all else search_params(self.options),
            "score_threshold": least,
        }

    def read_page(
        self, limit: int, offset: int, *, payload: bool | list[str], vectors: bool = False
    ) -> list[models.ScoredPoint]:
        """The points of these ranks."""
        with self.clock.measure("store"):
            return self.reader.query(
                lambda size, start: self.reader.client.query_points(
                    self.reader.name,
                    query_filter=self.selection,
                    limit=size,
                    offset=start or None,
                    with_payload=payload,
                    with_vectors=vectors,
                    **self.arguments(),
                ),
                limit=limit,
                offset=offset,
            )

    def as_model(self) -> models.QueryRequest:
        """The request as one of a batch."""
        arguments = self.arguments()
        return models.QueryRequest(
            filter=self.selection,
            params=arguments.pop("search_params"),
            limit=self.options.limit,
            offset=self.options.offset or None,
            with_payload=self.payload,
            with_vector=self.vectors,
            **arguments,
        )

    def read_hits(self, limit: int, offset: int) -> list[Hit]:
        """The hits of these ranks."""
        return self.make_hits(self.read_page(limit, offset, payload=self.payload, vectors=self.vectors))

    def make_hits(self, points: Sequence[models.ScoredPoint | models.Record]) -> list[Hit]:
        with self.clock.measure("hits"):
            return [self.make_hit(point) for point in points]

    def make_hit(
        self, point: models.ScoredPoint | models.Record, score: float | None = None, copies: tuple[str, ...] = ()
    ) -> Hit:
        """A point as a hit; `score` for a record, which has none of its own."""
        if score is None and isinstance(point, models.ScoredPoint) and self.ranking.query is not None:
            score = point.score
        vector = dense_vector(point.vector) if self.vectors else None
        parts = self.ranking.found.get(str(point.id), {})
        likeness = score if self.ranking.by == "likeness" else parts.get("likeness")
        return make_hit(
            point,
            score,
            copies=copies,
            vector=vector if self.options.vectors else None,
            relevance=self.scale.measure(likeness),
            parts=parts,
            shares=self._shares(vector) if self.options.explain and vector is not None else {},
        )

    def fill_hits(self, ids: Sequence[Any], scores: Mapping[Any, float | None]) -> list[Hit]:
        """The hits of points that are known by their ids, in this order; what is gone meanwhile is left out."""
        with self.clock.measure("store"):
            records = {
                record.id: record
                for record in self.reader.retrieve(ids, with_payload=self.payload, with_vectors=self.vectors)
            }
        with self.clock.measure("hits"):
            return [self.make_hit(records[one], scores.get(one)) for one in ids if one in records]

    def _query(self) -> Any:
        if not self.is_diverse:
            return self.ranking.query
        if self.ranking.vector is None:
            raise QueryError("diversity compares images by one vector, and this query has none: leave it out")
        return models.NearestQuery(
            nearest=self.ranking.vector.tolist(),
            mmr=models.Mmr(diversity=self.options.diversity, candidates_limit=self.depth),
        )

    def _shares(self, vector: np.ndarray) -> dict[str, float]:
        length = float(np.linalg.norm(vector)) or 1.0
        return {name: float(part @ vector) / length for name, part in self.ranking.parts.items()}


def find_threshold(options: SearchOptions, scale: RelevanceScale) -> float | None:
    """The least score of a hit, where the options ask for one: a cosine similarity, save by examples."""
    if options.min_relevance is None:
        return options.score_threshold
    least = scale.find_score(options.min_relevance)
    return least if options.score_threshold is None else max(least, options.score_threshold)


def search_params(options: SearchOptions) -> models.SearchParams | None:
    """How far the store looks, as the options say; None for its own way."""
    if options.rescore is not None or options.oversampling is not None:
        quantization = models.QuantizationSearchParams(rescore=options.rescore, oversampling=options.oversampling)
    else:
        quantization = None
    if quantization is None and options.ef is None and not options.exact:
        return None
    return models.SearchParams(hnsw_ef=options.ef, exact=options.exact, quantization=quantization)


def leave_out(selection: models.Filter | None, ids: Sequence[str]) -> models.Filter | None:
    """The filter without the points of these ids."""
    if not ids:
        return selection
    return models.Filter(
        must=[selection] if selection is not None else None, must_not=[models.HasIdCondition(has_id=[*ids])]
    )
