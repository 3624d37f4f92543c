"""Ids of points in place of vectors: the vector of the point is meant, and the point itself is no answer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qdrant_client import models

from clip_qdrant.errors import InvalidRequest
from clip_qdrant.store.edge.convert.ids import from_point_id, to_point_id
from clip_qdrant.store.edge.convert.queries.examples import replace_vectors
from clip_qdrant.store.edge.convert.queries.plan import QueryPlan
from clip_qdrant.store.edge.files.folder import EdgeFolder
from clip_qdrant.store.edge.search.run import merge_filters

__all__ = ["resolve_ids"]


def resolve_ids(folder: EdgeFolder, collection: str, plan: QueryPlan) -> QueryPlan:
    """The plan, and its prefetches, with vectors where it names points of this collection or of another one.

    Raises InvalidRequest for a point that is not there or has no such vector, CollectionNotFound.
    """
    if plan.prefetch:
        plan = replace(plan, prefetch=tuple(resolve_ids(folder, collection, one) for one in plan.prefetch))
    ids = _ids_in(plan.query)
    if not ids:
        return plan
    where = plan.lookup_from.collection if plan.lookup_from is not None else collection
    name = plan.lookup_from.vector if plan.lookup_from is not None else None
    vectors = _read_vectors(folder, where, ids, plan.using or "" if name is None else name)
    query = replace_vectors(plan.query, lambda one: vectors[to_point_id(one)] if _is_id(one) else one)
    if where != collection:
        return replace(plan, query=query)
    itself = models.HasIdCondition.model_construct(has_id=[from_point_id(one) for one in vectors])
    without = models.Filter.model_construct(must=None, should=None, must_not=[itself], min_should=None)
    return replace(plan, query=query, filter=merge_filters(plan.filter, without))


def _is_id(one: object) -> bool:
    return isinstance(one, int | str | uuid.UUID)


def _ids_in(query: Any) -> list[int | uuid.UUID]:
    if type(query) is models.NearestQuery:
        return [to_point_id(query.nearest)] if _is_id(query.nearest) else []
    found: list[int | uuid.UUID] = []

    def note(one: Any) -> Any:
        if _is_id(one):
            found.append(to_point_id(one))
        return one

    replace_vectors(query, note)
    return found


def _read_vectors(folder: EdgeFolder, collection: str, ids: Sequence[int | uuid.UUID], name: str) -> dict[Any, Any]:
    with folder.use(collection) as (entry, shard):
        if name not in entry.dense and name not in entry.sparse:
            there = ", ".join(repr(one) for one in (*entry.dense, *entry.sparse))
            raise InvalidRequest(f"collection {collection!r} has no vectors named {name!r}; it has {there}")
        stored = {record.id: record.vector for record in shard.retrieve(list(ids), False, [name])}
    vectors: dict[Any, Any] = {}
    for one in ids:
        if one not in stored:
            raise InvalidRequest(f"there is no point {one} in collection {collection!r}")
        vector: Any = stored[one]
        if isinstance(vector, dict):
            vector = vector.get(name)
        if vector is None:
            raise InvalidRequest(f"point {one} of collection {collection!r} has no vector {name!r}")
        vectors[one] = vector
    return vectors
