"""The half of EdgeClient that searches: query_points and what is made of it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import qdrant_edge as engine
from qdrant_client import models
from qdrant_client.http.models import QueryResponse  # models.QueryResponse is another one, of fastembed

from clip_qdrant.errors import StoreError, UnsupportedByEdge
from clip_qdrant.store.edge.collections import EdgeCollections, check_options
from clip_qdrant.store.edge.convert.filters import to_filter
from clip_qdrant.store.edge.convert.ids import to_point_id
from clip_qdrant.store.edge.convert.results import from_scored
from clip_qdrant.store.edge.convert.selectors import to_with_payload, to_with_vector
from clip_qdrant.store.edge.convert.vectors import to_query_vector
from clip_qdrant.store.edge.reads import check_limit

__all__ = ["EdgeQueries"]


class EdgeQueries(EdgeCollections):
    """Search points."""

    def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        query_filter: models.Filter | None = None,
        search_params: models.SearchParams | None = None,
        limit: int = 10,
        offset: int | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        lookup_from: Any = None,
        **kwargs: Any,
    ) -> QueryResponse:
        """The points nearest to a vector or to a stored point (by its id, itself left out), best first.

        Without a query: points in the order of their ids. Raises InvalidPoint for a vector that does not fit, and
        StoreError if there is no point of that id.
        """
        check_options({"using": using, "prefetch": prefetch, "lookup_from": lookup_from, **kwargs})
        check_limit(limit)
        if offset is not None and not (isinstance(offset, int) and 0 <= offset < 2**64):
            raise StoreError(f"offset is {offset!r}: it must be a whole number from 0 to 2^64 - 1")
        if isinstance(query, models.NearestQuery):
            if query.mmr is not None:
                raise UnsupportedByEdge("queries with mmr")
            query = query.nearest
        with self._folder.use(collection_name) as (entry, shard):
            wanted = to_filter(query_filter)
            if isinstance(query, int | str | uuid.UUID):
                origin = to_point_id(query)
                found = shard.retrieve([origin], False, True)
                if not found:
                    raise StoreError(f"there is no point {query} in collection {collection_name!r}")
                query = found[0].vector
                others: list[Any] = [engine.HasIdCondition({origin})]
                wanted = engine.Filter(must=[wanted] if wanted else None, must_not=others)
            elif query is not None and not isinstance(query, list | tuple | np.ndarray):
                raise UnsupportedByEdge(f"queries of type {type(query).__name__}")
            nearest = None
            if query is not None:
                nearest = engine.Query.Nearest(to_query_vector(query, entry))
            request = engine.QueryRequest(
                limit=limit,
                offset=offset or 0,
                query=nearest,
                filter=wanted,
                score_threshold=score_threshold,
                with_payload=to_with_payload(with_payload),
                with_vector=to_with_vector(with_vectors),
                params=_search_params(search_params),
            )
            points = shard.query(request)
        return QueryResponse(points=[from_scored(point) for point in points])

    def query_batch_points(
        self, collection_name: str, requests: Sequence[models.QueryRequest], **kwargs: Any
    ) -> list[QueryResponse]:
        """Several queries, one after the other."""
        return [
            self.query_points(
                collection_name,
                query=one.query,
                using=one.using,
                prefetch=one.prefetch,
                query_filter=one.filter,
                search_params=one.params,
                limit=10 if one.limit is None else one.limit,
                offset=one.offset,
                with_payload=one.with_payload,
                with_vectors=one.with_vector,
                score_threshold=one.score_threshold,
                lookup_from=one.lookup_from,
                shard_key=one.shard_key,
                **kwargs,
            )
            for one in requests
        ]


def _search_params(params: models.SearchParams | None) -> engine.SearchParams | None:
    if params is None:
        return None
    check_options({"quantization": params.quantization, "acorn": params.acorn, "idf": params.idf})
    return engine.SearchParams(hnsw_ef=params.hnsw_ef, exact=bool(params.exact), indexed_only=bool(params.indexed_only))
