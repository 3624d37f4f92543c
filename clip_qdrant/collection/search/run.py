"""Searcher: runs one search over a collection, from a query to hits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from clip_qdrant.collection.hits import Hits
from clip_qdrant.collection.points import id_of, make_hit
from clip_qdrant.collection.query import Query, as_vector
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.collection.search.ranking import Ranking
from clip_qdrant.filters.build import Where

if TYPE_CHECKING:
    from clip_qdrant.collection.reader import CollectionReader
    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["Searcher", "to_query"]


class Searcher:
    """Searches the collection of a reader with the vectors of an embedder. May be called from several threads."""

    def __init__(self, reader: CollectionReader, embedder: Embedder) -> None:
        self._reader = reader
        self._embedder = embedder

    def search(self, query: Any, *, where: Where | None, options: SearchOptions) -> Hits:
        """See `ImageCollection.search`."""
        wanted = to_query(query)
        return self._reader.read_if_there(
            lambda: self._rank(self._make_ranking(wanted), self._reader.build_filter(where), options),
            otherwise=self._find_no_collection(),
        )

    def rank(self, ranking: Ranking, *, where: Where | None, options: SearchOptions) -> Hits:
        """The hits of a ranking among the images that `where` holds for."""
        return self._reader.read_if_there(
            lambda: self._rank(ranking, self._reader.build_filter(where), options),
            otherwise=self._find_no_collection(),
        )

    def _rank(self, ranking: Ranking, selection: models.Filter | None, options: SearchOptions) -> Hits:
        selection = leave_out(selection, ranking.without)
        points = self._reader.query(
            lambda size, start: self._reader.client.query_points(
                self._reader.name,
                query=ranking.query,
                using=ranking.using,
                prefetch=list(ranking.prefetch) or None,
                query_filter=selection,
                limit=size,
                offset=start or None,
                with_payload=True,
                score_threshold=options.score_threshold,
            ),
            limit=options.limit,
            offset=options.offset,
        )
        if not points:
            return Hits(reason=self._explain_empty(selection, options))
        return Hits(make_hit(point, None if ranking.query is None else point.score) for point in points)

    def _make_ranking(self, query: Query | None) -> Ranking:
        if query is None:
            return Ranking(query=None)
        vector = query.evaluate(self._embedder, self.fetch_vectors)
        return Ranking.by_vector(vector, without=tuple(id_of(name) for name in query.names()))

    def fetch_vectors(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The stored vectors of images by uri, path or point id, float32 (dim,); what is not there is left out."""
        ids = {name: id_of(name) for name in names}
        found = {str(r.id): r.vector for r in self._reader.retrieve(list(set(ids.values())), with_vectors=True)}
        return {name: np.asarray(found[key], np.float32) for name, key in ids.items() if key in found}

    def _find_no_collection(self) -> Hits:
        return Hits(
            reason=f"there is no collection {self._reader.name!r} yet; ingesting makes it (clip-qdrant ingest, or add())"
        )

    def _explain_empty(self, selection: models.Filter | None, options: SearchOptions) -> str:
        number = self._reader.count(selection)
        if not number:
            return "the collection is empty" if selection is None else "the filter selects no image"
        if options.offset >= number:
            return f"the filter selects {number} images, and the offset is {options.offset}"
        return f"none of {number} images has a score of at least {options.score_threshold}"


def leave_out(selection: models.Filter | None, ids: Sequence[str]) -> models.Filter | None:
    """The filter without the points of these ids."""
    if not ids:
        return selection
    return models.Filter(
        must=[selection] if selection is not None else None, must_not=[models.HasIdCondition(has_id=[*ids])]
    )


def to_query(query: Any) -> Query | None:
    """What `ImageCollection.search` takes, as a Query: a `str` is a text, floats are a vector, the rest is an image."""
    if query is None or isinstance(query, Query):
        return query
    if isinstance(query, str):
        return Query.text(query)
    if isinstance(query, list | tuple) or (isinstance(query, np.ndarray) and query.dtype.kind == "f"):
        return Query.vector(as_vector(query))
    return Query.image(query)
