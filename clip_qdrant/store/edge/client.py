"""EdgeClient: an embedded Qdrant (qdrant-edge-py) behind the methods of qdrant_client.QdrantClient.

    with EdgeClient("./qdrant-data") as client:
        client.create_collection("photos", models.VectorParams(size=512, distance=models.Distance.COSINE))

One process at a time may have a collection open; each is opened at its first use. Clients of one process share what is
open: the second works as the first does, and closing one leaves the other open. Every acknowledged write is in the
engine's write-ahead log and survives the death of the process. What the engine cannot do raises UnsupportedByEdge.
The engine's optimize() is never called: it holds the interpreter lock for minutes, and exact search is fast enough
(14 ms at 100,000 points).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any

import numpy as np
import qdrant_edge as engine
from pydantic_core import to_json
from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.models import QueryResponse  # models.QueryResponse is another one, of fastembed

from clip_qdrant.errors import StoreError, UnsupportedByEdge
from clip_qdrant.store.edge.collections import DONE, EdgeCollections, check_options
from clip_qdrant.store.edge.convert import (
    from_record,
    from_scored,
    to_filter,
    to_payload,
    to_point_id,
    to_points,
    to_rows,
    to_with_payload,
    to_with_vector,
)
from clip_qdrant.store.edge.open_shard import OpenShard

__all__ = ["EdgeClient"]

# One write-ahead log record a call; smaller ones keep its size and the time the interpreter lock is held bounded.
_POINTS_A_WRITE = 1000
# Replaying the log takes about 30 s per million points after a crash; a flush takes 0.1 s and starts it afresh.
_POINTS_A_FLUSH = 20_000


class EdgeClient(EdgeCollections):
    """Collections in a local folder. Safe to use from several threads; not across a fork.

    `path` is made with the first write. Raises ConfigError if it is a file or the storage of another Qdrant,
    StoreError if the system does not let us look.
    """

    def __enter__(self) -> EdgeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EdgeClient({str(self._folder.root)!r})"

    def close(self, **kwargs: Any) -> None:
        """Flush all collections, and close those that no other client of this process uses. Any call after it raises
        StoreError."""
        check_options(kwargs)
        self._folder.close()

    # Writing

    def upsert(
        self,
        collection_name: str,
        points: models.Batch | Sequence[models.PointStruct],
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Write points. All are checked before the first is written: InvalidPoint names the one that is wrong."""
        check_options(kwargs)
        with self._folder.change(collection_name) as (entry, shard, opened):
            checked = to_points(points, entry)
            self._folder.check_room(collection_name, lambda: _size_of(points, entry.size))
            only = to_filter(update_filter)
            mode = _UPDATE_MODES[models.UpdateMode(update_mode)] if update_mode is not None else None
            for start in range(0, len(checked), _POINTS_A_WRITE):
                some = checked[start : start + _POINTS_A_WRITE]
                shard.update(engine.UpdateOperation.upsert_points(some, only, mode))
            _flush_at_times(opened, len(checked))
        return DONE

    def upload_points(
        self, collection_name: str, points: Iterable[models.PointStruct], batch_size: int = 64, **kwargs: Any
    ) -> None:
        """Upsert a stream of points, `batch_size` at a time."""
        stream = iter(points)
        while batch := list(islice(stream, batch_size)):
            self.upsert(collection_name, batch, **kwargs)

    def delete(self, collection_name: str, points_selector: Any, **kwargs: Any) -> models.UpdateResult:
        """Delete points by ids (those that are not there are passed over) or by filter."""
        check_options(kwargs)
        operation = engine.UpdateOperation
        with self._folder.change(collection_name) as (_, shard, opened):
            chosen = _selection(points_selector)
            by_filter = isinstance(chosen, engine.Filter)
            self._folder.check_room(collection_name)
            shard.update(operation.delete_points_by_filter(chosen) if by_filter else operation.delete_points(chosen))
            _flush_at_times(opened, 1 if by_filter else len(chosen))
        return DONE

    def set_payload(
        self, collection_name: str, payload: Mapping[str, Any], points: Any, key: str | None = None, **kwargs: Any
    ) -> models.UpdateResult:
        """Merge `payload` into the payload of the points, below `key` if given."""
        return self._change_payload(collection_name, points, kwargs, "set_payload", to_payload(payload), key)

    def overwrite_payload(
        self, collection_name: str, payload: Mapping[str, Any], points: Any, key: str | None = None, **kwargs: Any
    ) -> models.UpdateResult:
        """Replace the payload of the points."""
        return self._change_payload(collection_name, points, kwargs, "overwrite_payload", to_payload(payload), key)

    def delete_payload(
        self, collection_name: str, keys: Sequence[str], points: Any, **kwargs: Any
    ) -> models.UpdateResult:
        """Remove some keys from the payload of the points."""
        return self._change_payload(collection_name, points, kwargs, "delete_payload", list(keys))

    def clear_payload(self, collection_name: str, points_selector: Any, **kwargs: Any) -> models.UpdateResult:
        """Remove the whole payload of the points."""
        return self._change_payload(collection_name, points_selector, kwargs, "clear_payload")

    def _change_payload(
        self, collection_name: str, points: Any, options: Mapping[str, Any], verb: str, *arguments: Any
    ) -> models.UpdateResult:
        check_options(options)
        with self._folder.change(collection_name) as (_, shard, opened):
            chosen = _selection(points)
            by_filter = isinstance(chosen, engine.Filter)
            number = shard.info().points_count if by_filter else len(chosen)
            self._folder.check_room(collection_name, lambda: number * len(to_json(arguments)))
            if by_filter:
                shard.update(getattr(engine.UpdateOperation, f"{verb}_by_filter")(chosen, *arguments))
                _flush_at_times(opened, 1)
                return DONE
            # As on a server: the points that are there are changed, then the first that is missing is reported.
            there = {record.id for record in shard.retrieve(chosen, False, False)}
            present = [one for one in chosen if one in there]
            if present:
                shard.update(getattr(engine.UpdateOperation, verb)(present, *arguments))
                _flush_at_times(opened, len(present))
            for one in chosen:
                if one not in there:
                    raise StoreError(f"there is no point {one} in collection {collection_name!r}")
        return DONE

    # Reading

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[Any],
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> list[models.Record]:
        """The points of these ids that are there, in the order asked for."""
        check_options(kwargs)
        wanted = [to_point_id(one) for one in ids]
        with self._folder.use(collection_name) as (_, shard):
            found = shard.retrieve([*wanted], to_with_payload(with_payload), to_with_vector(with_vectors))
        by_id = {record.id: record for record in found}
        return [from_record(by_id[one]) for one in wanted if one in by_id]

    def scroll(
        self,
        collection_name: str,
        scroll_filter: models.Filter | None = None,
        limit: int = 10,
        order_by: Any = None,
        offset: Any = None,
        with_payload: Any = True,
        with_vectors: Any = False,
        **kwargs: Any,
    ) -> tuple[list[models.Record], int | str | None]:
        """A page of points in the order of their ids, and the `offset` of the next page or None."""
        check_options({"order_by": order_by, **kwargs})
        _check_limit(limit)
        with self._folder.use(collection_name) as (_, shard):
            records, following = shard.scroll(
                engine.ScrollRequest(
                    offset=None if offset is None else to_point_id(offset),
                    limit=limit,
                    filter=to_filter(scroll_filter),
                    with_payload=to_with_payload(with_payload),
                    with_vector=to_with_vector(with_vectors),
                )
            )
        after = str(following) if isinstance(following, uuid.UUID) else following
        return [from_record(record) for record in records], after

    def count(
        self, collection_name: str, count_filter: models.Filter | None = None, exact: bool = True, **kwargs: Any
    ) -> models.CountResult:
        """The number of points that pass a filter."""
        check_options(kwargs)
        with self._folder.use(collection_name) as (_, shard):
            return models.CountResult(count=shard.count(engine.CountRequest(exact, to_filter(count_filter))))

    def facet(
        self,
        collection_name: str,
        key: str,
        facet_filter: models.Filter | None = None,
        limit: int = 10,
        exact: bool = False,
        **kwargs: Any,
    ) -> models.FacetResponse:
        """The values of an indexed field with the number of points that have each, most frequent first."""
        check_options(kwargs)
        _check_limit(limit)
        with self._folder.use(collection_name) as (_, shard):
            index = shard.info().payload_schema.get(key)
            if index is None or index.data_type not in _FACET_TYPES:
                raise StoreError(
                    f"{key!r} cannot be counted by value: it needs a payload index of type keyword, integer, bool or "
                    f"uuid (create_payload_index({collection_name!r}, {key!r}, 'keyword'))"
                )
            hits = shard.facet(engine.FacetRequest(key, limit, exact, to_filter(facet_filter))).hits
        return models.FacetResponse(hits=[models.FacetValueHit(value=hit.value, count=hit.count) for hit in hits])

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
        _check_limit(limit)
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
                nearest = engine.Query.Nearest(to_rows(["query"], [query], entry)[0].tolist())
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


_UPDATE_MODES = {
    models.UpdateMode.UPSERT: engine.UpdateMode.Upsert,
    models.UpdateMode.INSERT_ONLY: engine.UpdateMode.InsertOnly,
    models.UpdateMode.UPDATE_ONLY: engine.UpdateMode.UpdateOnly,
}
_FACET_TYPES = (
    engine.PayloadSchemaType.Keyword,
    engine.PayloadSchemaType.Integer,
    engine.PayloadSchemaType.Bool,
    engine.PayloadSchemaType.Uuid,
)


def _flush_at_times(opened: OpenShard, points: int) -> None:
    """Takes note of a change of so many points (1 for those that a filter chose: they are not counted)."""
    opened.unflushed += points
    if opened.unflushed >= _POINTS_A_FLUSH:
        opened.flush()


def _check_limit(limit: int) -> None:
    if not isinstance(limit, int) or not 1 <= limit < 2**64:
        raise StoreError(f"limit is {limit!r}: it must be a whole number from 1 to 2^64 - 1")


def _selection(points: Any) -> Any:
    """The engine's Filter, or a list of ids, for any of the forms in which points can be chosen."""
    match points:
        case models.Filter():
            return to_filter(points)
        case models.FilterSelector(filter=chosen):
            return to_filter(chosen)
        case models.PointIdsList(points=ids):
            return [to_point_id(one) for one in ids]
        case int() | str() | uuid.UUID():
            return [to_point_id(points)]
        case list() | tuple():
            return [to_point_id(one) for one in points]
    raise UnsupportedByEdge(f"points chosen by {type(points).__name__}")


def _size_of(points: models.Batch | Sequence[models.PointStruct], dim: int) -> int:
    """Bytes of vectors and payloads."""
    payloads = points.payloads or [] if isinstance(points, models.Batch) else [one.payload for one in points]
    number = len(points.ids) if isinstance(points, models.Batch) else len(points)
    return 4 * dim * number + sum(len(to_json(payload)) for payload in payloads)


def _search_params(params: models.SearchParams | None) -> engine.SearchParams | None:
    if params is None:
        return None
    check_options({"quantization": params.quantization, "acorn": params.acorn, "idf": params.idf})
    return engine.SearchParams(hnsw_ef=params.hnsw_ef, exact=bool(params.exact), indexed_only=bool(params.indexed_only))


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(_self: EdgeClient, *_args: Any, **_kwargs: Any) -> Any:
        raise UnsupportedByEdge(name)

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


# All that QdrantBase declares and is not written above, in whichever version of it is installed.
for _name in vars(QdrantBase):
    if not _name.startswith("_") and getattr(EdgeClient, _name) is getattr(QdrantBase, _name):
        setattr(EdgeClient, _name, _refusal(_name))
