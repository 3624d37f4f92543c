"""The half of EdgeClient that writes points: their vectors and payloads."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest, PointNotFound
from clip_qdrant.store.edge.collections import DONE, EdgeCollections, check_options
from clip_qdrant.store.edge.convert import changes
from clip_qdrant.store.edge.convert.changes import PointChange
from clip_qdrant.store.edge.entry import CollectionEntry
from clip_qdrant.store.edge.files.open_shard import OpenShard

__all__ = ["EdgePoints"]

# Replaying the log takes about 30 s per million points after a crash; a flush takes 0.1 s and starts it afresh.
_POINTS_A_FLUSH = 20_000


class EdgePoints(EdgeCollections):
    """Write, change and delete points. All that a call is given is checked before the first point is written.

    Points are chosen by ids or by a filter. Of ids those that are there are changed, and then PointNotFound names the
    first that is not, as on a server; `delete` passes over them.
    """

    def upsert(
        self,
        collection_name: str,
        points: models.Batch | Sequence[models.PointStruct],
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Write points. All are checked before the first is written: InvalidPoint names the one that is wrong."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        return self._change(collection_name, lambda entry: changes.to_upsert(points, entry, update_filter, update_mode))

    def upload_points(
        self,
        collection_name: str,
        points: Iterable[models.PointStruct],
        batch_size: int = 64,
        parallel: int = 1,
        method: str | None = None,
        max_retries: int = 3,
        wait: bool = False,
        shard_key_selector: models.ShardKeySelector | None = None,
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        **kwargs: Any,
    ) -> None:
        """Upsert a stream of points, `batch_size` at a time."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        stream = iter(points)
        while batch := list(itertools.islice(stream, batch_size)):
            self.upsert(collection_name, batch, update_filter=update_filter, update_mode=update_mode)

    def upload_collection(
        self,
        collection_name: str,
        vectors: Mapping[str, Any] | Iterable[Any],
        payload: Iterable[dict[Any, Any]] | None = None,
        ids: Iterable[Any] | None = None,
        batch_size: int = 64,
        parallel: int = 1,
        method: str | None = None,
        max_retries: int = 3,
        wait: bool = False,
        shard_key_selector: models.ShardKeySelector | None = None,
        update_filter: models.Filter | None = None,
        update_mode: models.UpdateMode | None = None,
        **kwargs: Any,
    ) -> None:
        """Upsert vectors, an array or a dict of arrays by name, (n, dim), or an iterable of vectors of points.

        Points without `ids` get random ones. The shortest of what is given ends it.
        """
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        columns = zip(
            (str(uuid.uuid4()) for _ in itertools.count()) if ids is None else ids,
            _split_arrays(vectors),
            itertools.repeat(None) if payload is None else payload,
            strict=False,
        )
        # Not validated by pydantic, which takes no arrays: to_points checks more.
        points = (
            models.PointStruct.model_construct(id=one, vector={} if vector is None else vector, payload=fields)
            for one, vector, fields in columns
        )
        self.upload_points(collection_name, points, batch_size, update_filter=update_filter, update_mode=update_mode)

    def update_vectors(
        self,
        collection_name: str,
        points: Sequence[models.PointVectors],
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        update_filter: models.Filter | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Replace some vectors of points; their other vectors and payloads stay."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        return self._change(collection_name, lambda entry: changes.to_update_vectors(points, entry, update_filter))

    def delete_vectors(
        self,
        collection_name: str,
        vectors: Sequence[str],
        points: Any,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Take the vectors of these names from points."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        return self._change(collection_name, lambda entry: changes.to_delete_vectors(vectors, points, entry))

    def delete(
        self,
        collection_name: str,
        points_selector: Any,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Delete points by ids (those that are not there are passed over) or by filter."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        return self._change(collection_name, lambda _: changes.to_delete(points_selector))

    def set_payload(
        self,
        collection_name: str,
        payload: dict[str, Any],
        points: Any,
        key: str | None = None,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Merge `payload` into the payload of the points, below `key` if given."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        return self._change(collection_name, lambda _: changes.to_payload_change("set_payload", points, payload, key))

    def overwrite_payload(
        self,
        collection_name: str,
        payload: dict[str, Any],
        points: Any,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Replace the payload of the points."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        return self._change(collection_name, lambda _: changes.to_payload_change("overwrite_payload", points, payload))

    def delete_payload(
        self,
        collection_name: str,
        keys: Sequence[str],
        points: Any,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Remove some keys from the payload of the points."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        return self._change(collection_name, lambda _: changes.to_payload_change("delete_payload", points, list(keys)))

    def clear_payload(
        self,
        collection_name: str,
        points_selector: Any,
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        shard_key_selector: models.ShardKeySelector | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> models.UpdateResult:
        """Remove the whole payload of the points."""
        check_options({"shard_key_selector": shard_key_selector, **kwargs})
        return self._change(collection_name, lambda _: changes.to_payload_change("clear_payload", points_selector))

    def batch_update_points(
        self,
        collection_name: str,
        update_operations: Sequence[Any],
        wait: bool = True,
        ordering: models.WriteOrdering | None = None,
        timeout: int | None = None,
        **kwargs: Any,
    ) -> list[models.UpdateResult]:
        """Operations of any kind in their order. All are checked before the first is done."""
        check_options(kwargs)
        with self._folder.change(collection_name) as (entry, shard, opened):
            planned = [changes.to_operation_change(one, entry) for one in update_operations]
            for change in planned:
                self._apply(collection_name, change, shard, opened)
        return [DONE.model_copy() for _ in planned]

    def _change(self, name: str, plan: Callable[[CollectionEntry], PointChange]) -> models.UpdateResult:
        with self._folder.change(name) as (entry, shard, opened):
            self._apply(name, plan(entry), shard, opened)
        return DONE.model_copy()

    def _apply(self, name: str, change: PointChange, shard: engine.EdgeShard, opened: OpenShard) -> None:
        each = 1 if change.points is not None else shard.info().points_count
        self._folder.check_room(name, lambda: each * change.size())
        there: Sequence[Any] = ()
        if change.ids is not None:
            found = {record.id for record in shard.retrieve([*change.ids], False, False)}
            there = [one for one in change.ids if one in found]
        elif change.only is not None:
            request = engine.ScrollRequest(limit=each + 1, filter=change.only, with_payload=False, with_vector=False)
            there = [record.id for record in shard.scroll(request)[0]]
        for operation in change.make(there):
            shard.update(operation)
        # Those that a filter chose are not counted.
        opened.unflushed += 1 if change.points is None else change.points if change.ids is None else len(there)
        if opened.unflushed >= _POINTS_A_FLUSH:
            opened.flush()
        if change.ids is not None and len(there) < len(change.ids):
            missing = next(one for one in change.ids if one not in found)
            raise PointNotFound(f"there is no point {missing} in collection {name!r}")


def _split_arrays(vectors: Mapping[str, Any] | Iterable[Any]) -> Iterable[Any]:
    """The vectors of each point."""
    if not isinstance(vectors, Mapping):
        return vectors
    lengths = {len(column) for column in vectors.values()}
    if len(lengths) > 1 or not all(isinstance(column, np.ndarray | list | tuple) for column in vectors.values()):
        raise InvalidRequest("vectors by name must be arrays or lists of the same length")
    number = next(iter(lengths), 0)
    return ({name: column[at] for name, column in vectors.items()} for at in range(number))
