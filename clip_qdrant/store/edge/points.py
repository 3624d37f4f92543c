"""The half of EdgeClient that writes points: their vectors and payloads."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import qdrant_edge as engine
from pydantic_core import to_json
from qdrant_client import models

from clip_qdrant.errors import StoreError, UnsupportedByEdge
from clip_qdrant.store.edge.collections import DONE, EdgeCollections, check_options
from clip_qdrant.store.edge.convert.filters import to_filter
from clip_qdrant.store.edge.convert.ids import to_point_id
from clip_qdrant.store.edge.convert.points import to_payload, to_points
from clip_qdrant.store.edge.convert.vectors import count_bytes
from clip_qdrant.store.edge.files.open_shard import OpenShard

__all__ = ["EdgePoints"]

# One write-ahead log record a call; smaller ones keep its size and the time the interpreter lock is held bounded.
_POINTS_A_WRITE = 1000
# Replaying the log takes about 30 s per million points after a crash; a flush takes 0.1 s and starts it afresh.
_POINTS_A_FLUSH = 20_000
_UPDATE_MODES = {
    models.UpdateMode.UPSERT: engine.UpdateMode.Upsert,
    models.UpdateMode.INSERT_ONLY: engine.UpdateMode.InsertOnly,
    models.UpdateMode.UPDATE_ONLY: engine.UpdateMode.UpdateOnly,
}


class EdgePoints(EdgeCollections):
    """Write, change and delete points. All that a call is given is checked before the first point is written."""

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
            self._folder.check_room(collection_name, lambda: _size_of(checked))
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


def _flush_at_times(opened: OpenShard, points: int) -> None:
    """Takes note of a change of so many points (1 for those that a filter chose: they are not counted)."""
    opened.unflushed += points
    if opened.unflushed >= _POINTS_A_FLUSH:
        opened.flush()


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


def _size_of(points: Sequence[engine.Point]) -> int:
    """Bytes of vectors and payloads."""
    return sum(count_bytes(one.vector) + len(to_json(one.payload)) for one in points)
