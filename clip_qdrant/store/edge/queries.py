"""The half of EdgeClient that searches: query_points and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdrant_client import models
from qdrant_client.http.models import QueryResponse  # models.QueryResponse is another one, of fastembed

from clip_qdrant.errors import InvalidPoint, InvalidRequest
from clip_qdrant.store.edge.collections import EdgeCollections, check_options
from clip_qdrant.store.edge.convert.filters import to_filter
from clip_qdrant.store.edge.convert.ids import from_point_id, to_point_id
from clip_qdrant.store.edge.convert.queries.plan import (
    QueryPlan,
    check_number,
    read_model,
    read_plan,
    read_request,
)
from clip_qdrant.store.edge.convert.results import from_record
from clip_qdrant.store.edge.convert.selectors import to_with_payload, to_with_vector
from clip_qdrant.store.edge.search.groups import find_groups
from clip_qdrant.store.edge.search.lookup import resolve_ids
from clip_qdrant.store.edge.search.matrix import measure_sample
from clip_qdrant.store.edge.search.ranking import Window
from clip_qdrant.store.edge.search.run import run_plans

__all__ = ["EdgeQueries"]


class EdgeQueries(EdgeCollections):
    """Search points.

    Points of equal score are in the order of their ids. Dicts stand for models, and ids of points for their vectors.
    Raises InvalidRequest for what makes no query and for a point that is not there, InvalidPoint for a vector that does
    not fit.
    """

    def query_points(
        self,
        collection_name: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        query_filter: models.Filter | None = None,
        search_params: models.SearchParams | None = None,
        limit: int | None = 10,
        offset: int | None = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        lookup_from: models.LookupLocation | None = None,
        consistency: models.ReadConsistency | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> QueryResponse:
        """The best points of a query, a score that equals `score_threshold` among them.

        A point whose id is in the query is left out. Without a query: points in the order of their ids.
        """
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        plan = read_plan(
            query,
            using=using,
            prefetch=prefetch,
            query_filter=query_filter,
            params=search_params,
            limit=limit,
            score_threshold=score_threshold,
            lookup_from=lookup_from,
        )
        page = _read_page(plan.limit, offset, with_payload, with_vectors)
        return self._query(collection_name, [(plan, page)])[0]

    def query_batch_points(
        self,
        collection_name: str,
        requests: Sequence[models.QueryRequest],
        consistency: models.ReadConsistency | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> list[QueryResponse]:
        """The answers of several queries, in one call of the engine where they need no others."""
        check_options(kwargs)
        asked = []
        for given in requests:
            one = read_model(models.QueryRequest, given)
            if one is None:
                raise InvalidRequest("a request of the batch is None: give models.QueryRequest(query=...)")
            check_options({"shard_key": one.shard_key})
            plan = read_request(one)
            asked.append((plan, _read_page(plan.limit, one.offset, one.with_payload, one.with_vector)))
        return self._query(collection_name, asked)

    def _query(self, collection_name: str, asked: Sequence[tuple[QueryPlan, Window]]) -> list[QueryResponse]:
        resolved = [(resolve_ids(self._folder, collection_name, plan), page) for plan, page in asked]
        with self._folder.use(collection_name) as (entry, shard):
            answers = run_plans(shard, entry, resolved)
        return [QueryResponse(points=points) for points in answers]

    def query_points_groups(
        self,
        collection_name: str,
        group_by: str,
        query: Any = None,
        using: str | None = None,
        prefetch: Any = None,
        query_filter: models.Filter | None = None,
        search_params: models.SearchParams | None = None,
        limit: int | None = 10,
        group_size: int | None = 3,
        with_payload: Any = True,
        with_vectors: Any = False,
        score_threshold: float | None = None,
        with_lookup: Any = None,
        lookup_from: models.LookupLocation | None = None,
        consistency: models.ReadConsistency | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.GroupsResult:
        """The best points of a query in groups by a payload field, the group of the best point first.

        A point is in the group of each of its values. With `with_lookup` each group has the point of another collection
        whose id is its value.
        """
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        plan = read_plan(
            query,
            using=using,
            prefetch=prefetch,
            query_filter=query_filter,
            params=search_params,
            limit=limit,
            score_threshold=score_threshold,
            lookup_from=lookup_from,
        )
        size = 3 if group_size is None else check_number("group_size", group_size, 1)
        page = _read_page(plan.limit, None, with_payload, with_vectors)
        plan = resolve_ids(self._folder, collection_name, plan)
        with self._folder.use(collection_name) as (entry, shard):
            groups = find_groups(shard, entry, plan, group_by, size, page)
        if with_lookup is not None:
            self._look_up(groups, with_lookup)
        return models.GroupsResult.model_construct(groups=groups)

    def _look_up(self, groups: Sequence[models.PointGroup], with_lookup: Any) -> None:
        given = {"collection": with_lookup} if isinstance(with_lookup, str) else with_lookup
        asked = read_model(models.WithLookup, given)
        assert asked is not None
        ids = {}
        for group in groups:
            try:
                ids[group.id] = to_point_id(group.id)
            except InvalidPoint:  # a value that is no id finds no point
                continue
        payload = to_with_payload(True if asked.with_payload is None else asked.with_payload)
        with self._folder.use(asked.collection) as (_, shard):
            records = shard.retrieve(list(ids.values()), payload, to_with_vector(asked.with_vectors)) if ids else []
        found = {record.id: from_record(record) for record in records}
        for group in groups:
            group.lookup = found.get(ids[group.id]) if group.id in ids else None

    def search_matrix_pairs(
        self,
        collection_name: str,
        query_filter: models.Filter | None = None,
        limit: int | None = 3,
        sample: int | None = 10,
        using: str | None = None,
        consistency: models.ReadConsistency | None = None,
        timeout: int | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        **kwargs: Any,
    ) -> models.SearchMatrixPairsResponse:
        """Pairs of `sample` points drawn at random, each with its `limit` nearest among them."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        ids, nearest = self._measure(collection_name, query_filter, limit, sample, using)
        pairs = [
            models.SearchMatrixPair.model_construct(a=from_point_id(one), b=from_point_id(place.id), score=place.score)
            for one, places in zip(ids, nearest, strict=True)
            for place in places
        ]
        return models.SearchMatrixPairsResponse.model_construct(pairs=pairs)

    def search_matrix_offsets(
        self,
        collection_name: str,
        query_filter: models.Filter | None = None,
        limit: int | None = 3,
        sample: int | None = 10,
        using: str | None = None,
        consistency: models.ReadConsistency | None = None,
        timeout: int | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        **kwargs: Any,
    ) -> models.SearchMatrixOffsetsResponse:
        """The same as a sparse matrix: rows and columns are places in `ids`."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        ids, nearest = self._measure(collection_name, query_filter, limit, sample, using)
        at = {one: number for number, one in enumerate(ids)}
        cells = [(row, at[place.id], place.score) for row, places in enumerate(nearest) for place in places]
        return models.SearchMatrixOffsetsResponse.model_construct(
            offsets_row=[row for row, _, _ in cells],
            offsets_col=[column for _, column, _ in cells],
            scores=[score for _, _, score in cells],
            ids=[from_point_id(one) for one in ids],
        )

    def _measure(
        self, collection_name: str, query_filter: object, limit: int | None, sample: int | None, using: str | None
    ) -> tuple[list[Any], list[Any]]:
        most = 3 if limit is None else check_number("limit", limit, 1)
        number = 10 if sample is None else check_number("sample", sample, 2)
        condition = to_filter(read_model(models.Filter, query_filter))
        name = using or ""
        with self._folder.use(collection_name) as (entry, shard):
            if name not in entry.dense and name not in entry.sparse:
                there = ", ".join(repr(one) for one in (*entry.dense, *entry.sparse))
                raise InvalidRequest(f"collection {collection_name!r} has no vectors named {name!r}; it has {there}")
            return measure_sample(shard, condition, limit=most, sample=number, using=name)


def _read_page(limit: int, offset: object, with_payload: Any, with_vectors: Any) -> Window:
    start = 0 if offset is None else check_number("offset", offset, 0)
    return Window(limit, start, to_with_payload(with_payload), to_with_vector(with_vectors))
