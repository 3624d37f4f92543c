"""The part of EdgeClient that reads points: by id, page by page, in an order, counted."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest
from clip_qdrant.store.edge.collections import EdgeCollections, check_options
from clip_qdrant.store.edge.convert.filters import to_filter
from clip_qdrant.store.edge.convert.ids import to_point_id
from clip_qdrant.store.edge.convert.ordering import to_order_by
from clip_qdrant.store.edge.convert.results import from_record
from clip_qdrant.store.edge.convert.selectors import to_with_payload, to_with_vector
from clip_qdrant.store.edge.search.ranking import RankedQuery, read_places

__all__ = ["EdgeReads", "check_limit"]

_FACET_TYPES = (
    engine.PayloadSchemaType.Keyword,
    engine.PayloadSchemaType.Integer,
    engine.PayloadSchemaType.Bool,
    engine.PayloadSchemaType.Uuid,
)


class EdgeReads(EdgeCollections):
    """Read and count points."""

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[Any],
        with_payload: Any = True,
        with_vectors: Any = False,
        consistency: models.ReadConsistency | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> list[models.Record]:
        """The points of these ids that are there, in the order asked for."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        wanted = [to_point_id(one) for one in ids]
        with self._folder.use(collection_name) as (_, shard):
            found = shard.retrieve([*wanted], to_with_payload(with_payload), to_with_vector(with_vectors))
        by_id = {record.id: record for record in found}
        return [from_record(by_id[one]) for one in wanted if one in by_id]

    def scroll(
        self,
        collection_name: str,
        scroll_filter: models.Filter | None = None,
        limit: int | None = 10,
        order_by: Any = None,
        offset: Any = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        consistency: models.ReadConsistency | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> tuple[list[models.Record], int | str | None]:
        """A page of points in the order of their ids, and the `offset` of the next page or None.

        With `order_by`, a field that is indexed or models.OrderBy, points come in the order of their values, once for
        each value, those of equal values in the order of their ids; then there is no offset, and `start_from` gives the
        next page. A `limit` of None is 10.
        """
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        limit = 10 if limit is None else limit
        check_limit(limit)
        parts = {"with_payload": to_with_payload(with_payload), "with_vector": to_with_vector(with_vectors)}
        with self._folder.use(collection_name) as (_, shard):
            chosen = to_filter(scroll_filter)
            if order_by is not None:
                if offset is not None:
                    raise InvalidRequest("an offset cannot be combined with order_by; use its start_from")
                order = to_order_by(order_by, shard.info().payload_schema)
                (places,) = read_places(shard, [(RankedQuery(order, chosen), limit)])
                stored = {record.id: record for record in shard.retrieve([place.id for place in places], **parts)}
                return [from_record(stored[place.id], place.order_value) for place in places], None
            start = None if offset is None else to_point_id(offset)
            records, following = shard.scroll(engine.ScrollRequest(start, limit, chosen, **parts))
        after = str(following) if isinstance(following, uuid.UUID) else following
        return [from_record(record) for record in records], after

    def count(
        self,
        collection_name: str,
        count_filter: models.Filter | None = None,
        exact: bool = True,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.CountResult:
        """The number of points that pass a filter."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        with self._folder.use(collection_name) as (_, shard):
            return models.CountResult(count=shard.count(engine.CountRequest(bool(exact), to_filter(count_filter))))

    def facet(
        self,
        collection_name: str,
        key: str,
        facet_filter: models.Filter | None = None,
        limit: int = 10,
        exact: bool = False,
        consistency: models.ReadConsistency | None = None,
        timeout: int | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        **kwargs: Any,
    ) -> models.FacetResponse:
        """The values of an indexed field with the number of points that have each, most frequent first."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        limit = 10 if limit is None else limit
        check_limit(limit)
        with self._folder.use(collection_name) as (_, shard):
            index = shard.info().payload_schema.get(key)
            if index is None or index.data_type not in _FACET_TYPES:
                raise InvalidRequest(
                    f"{key!r} cannot be counted by value: it needs a payload index of type keyword, integer, bool or "
                    f"uuid (create_payload_index({collection_name!r}, {key!r}, 'keyword'))"
                )
            hits = shard.facet(engine.FacetRequest(key, limit, bool(exact), to_filter(facet_filter))).hits
        # The engine goes on telling of values that no point has any more.
        return models.FacetResponse(
            hits=[models.FacetValueHit(value=hit.value, count=hit.count) for hit in hits if hit.count]
        )


def check_limit(limit: int) -> None:
    """InvalidRequest for a limit that is none."""
    if not isinstance(limit, int) or not 1 <= limit < 2**64:
        raise InvalidRequest(f"limit is {limit!r}: it must be a whole number from 1 to 2^64 - 1")
