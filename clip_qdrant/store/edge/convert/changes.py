"""What one request changes in points: checked whole, before the first operation goes to the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import qdrant_edge as engine
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json
from qdrant_client import models

from clip_qdrant.errors import InvalidPoint, InvalidRequest, UnsupportedByEdge
from clip_qdrant.store.edge.convert.filters import to_filter
from clip_qdrant.store.edge.convert.points import to_payload, to_point_vectors, to_points
from clip_qdrant.store.edge.convert.selectors import to_selection
from clip_qdrant.store.edge.convert.vectors import count_bytes
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = [
    "PointChange",
    "to_delete",
    "to_delete_vectors",
    "to_operation_change",
    "to_payload_change",
    "to_update_vectors",
    "to_upsert",
]

# One write-ahead log record an operation; smaller ones keep its size and the time the interpreter lock is held bounded.
_POINTS_AN_OPERATION = 1000
_UPDATE_MODES = {
    models.UpdateMode.UPSERT: engine.UpdateMode.Upsert,
    models.UpdateMode.INSERT_ONLY: engine.UpdateMode.InsertOnly,
    models.UpdateMode.UPDATE_ONLY: engine.UpdateMode.UpdateOnly,
}
_OPERATIONS: TypeAdapter[models.UpdateOperation] = TypeAdapter(models.UpdateOperation)


@dataclass(frozen=True, slots=True)
class PointChange:
    """Operations of the engine.

    `ids` are the points that must be there, None where it does not matter; `make` gives the operations, told which of
    them are. `points` is how many change, None if a filter chooses them. `size` is how many bytes are written for all,
    or for each of those chosen by a filter. With `only`, `make` is told the ids of the points that pass it.
    """

    make: Callable[[Sequence[Any]], Iterator[engine.UpdateOperation]]
    ids: Sequence[Any] | None
    points: int | None
    size: Callable[[], int] = lambda: 0
    only: engine.Filter | None = None


def to_upsert(
    points: Any,
    entry: CollectionEntry,
    update_filter: models.Filter | None = None,
    update_mode: models.UpdateMode | None = None,
) -> PointChange:
    """Write points. Raises InvalidPoint naming the one that is wrong."""
    checked = to_points(points, entry)
    only = to_filter(update_filter)
    mode = _UPDATE_MODES[models.UpdateMode(update_mode)] if update_mode is not None else None

    def make(_: Sequence[Any]) -> Iterator[engine.UpdateOperation]:
        for start in range(0, len(checked), _POINTS_AN_OPERATION):
            yield engine.UpdateOperation.upsert_points(checked[start : start + _POINTS_AN_OPERATION], only, mode)

    def size() -> int:
        return sum(count_bytes(one.vector) + len(to_json(one.payload)) for one in checked)

    return PointChange(make, None, len(checked), size)


def to_update_vectors(points: Any, entry: CollectionEntry, update_filter: models.Filter | None = None) -> PointChange:
    """Replace some vectors of points, and keep the others."""
    checked = to_point_vectors(points, entry)
    only = to_filter(update_filter)

    def make(there: Sequence[Any]) -> Iterator[engine.UpdateOperation]:
        present = set(there)
        some = [one for one in checked if one.id in present]
        for start in range(0, len(some), _POINTS_AN_OPERATION):
            yield engine.UpdateOperation.update_vectors(some[start : start + _POINTS_AN_OPERATION], only)

    def size() -> int:
        return sum(count_bytes(one.vector) for one in checked)

    return PointChange(make, [one.id for one in checked], len(checked), size)


def to_delete(selector: Any) -> PointChange:
    """Delete points; of ids those that are not there are passed over."""
    chosen = to_selection(selector)
    operation = engine.UpdateOperation
    if isinstance(chosen, engine.Filter):
        return PointChange(_one(operation.delete_points_by_filter(chosen)), None, None)
    return PointChange(_one(operation.delete_points(chosen)), None, len(chosen))


def to_delete_vectors(vectors: Sequence[str], points: Any, entry: CollectionEntry) -> PointChange:
    """Take vectors of some names from points."""
    names = list(vectors)
    if not names:
        raise InvalidRequest("give the names of the vectors to delete")
    chosen = to_selection(points)
    for name in names:
        if name not in entry.dense and name not in entry.sparse:
            raise InvalidPoint(f"there is no vector {name!r} in the collection to delete")
    # The index keeps the terms of a deleted sparse vector, and they find the point again once it has another one. Those
    # of a vector that is replaced leave it, so it is replaced by an empty one first.
    empty: dict[str, Any] = {name: engine.SparseVector([], []) for name in names if name in entry.sparse}
    if not empty:
        return _change_chosen(chosen, "delete_vectors", [names])

    def make(there: Sequence[Any]) -> Iterator[engine.UpdateOperation]:
        for start in range(0, len(there), _POINTS_AN_OPERATION):
            some = list(there[start : start + _POINTS_AN_OPERATION])
            yield engine.UpdateOperation.update_vectors([engine.PointVectors(one, empty) for one in some])
            yield engine.UpdateOperation.delete_vectors(some, names)

    if isinstance(chosen, engine.Filter):
        return PointChange(make, None, None, only=chosen)
    return PointChange(make, chosen, len(chosen))


def to_payload_change(verb: str, points: Any, *arguments: Any) -> PointChange:
    """`verb` is the engine's: set_payload, overwrite_payload, delete_payload or clear_payload."""
    prepared = [to_payload(one) if isinstance(one, Mapping) else one for one in arguments]
    return _change_chosen(to_selection(points), verb, prepared)


def to_operation_change(operation: Any, entry: CollectionEntry) -> PointChange:
    """One operation of a batch, or the dict of one."""
    if isinstance(operation, Mapping):
        try:
            operation = _OPERATIONS.validate_python(operation)
        except ValidationError as error:
            raise InvalidRequest(f"{repr(operation)[:80]} is no operation that changes points") from error
    for asked in dict(operation).values() if isinstance(operation, BaseModel) else ():
        if getattr(asked, "shard_key", None) is not None:
            raise UnsupportedByEdge("shard keys")
    match operation:
        case models.UpsertOperation(upsert=asked):
            points = asked.batch if isinstance(asked, models.PointsBatch) else asked.points
            return to_upsert(points, entry, asked.update_filter, asked.update_mode)
        case models.DeleteOperation(delete=asked):
            return to_delete(asked)
        case models.SetPayloadOperation(set_payload=asked):
            return to_payload_change("set_payload", _chosen(asked), asked.payload, asked.key)
        case models.OverwritePayloadOperation(overwrite_payload=asked):
            return to_payload_change("overwrite_payload", _chosen(asked), asked.payload)
        case models.DeletePayloadOperation(delete_payload=asked):
            return to_payload_change("delete_payload", _chosen(asked), list(asked.keys))
        case models.ClearPayloadOperation(clear_payload=asked):
            return to_payload_change("clear_payload", asked)
        case models.UpdateVectorsOperation(update_vectors=asked):
            return to_update_vectors(asked.points, entry, asked.update_filter)
        case models.DeleteVectorsOperation(delete_vectors=asked):
            return to_delete_vectors(asked.vector, _chosen(asked), entry)
    raise InvalidRequest(f"{type(operation).__name__} is no operation that changes points")


def _chosen(asked: models.SetPayload | models.DeletePayload | models.DeleteVectors) -> Any:
    return asked.points if asked.points is not None else asked.filter


def _change_chosen(chosen: Any, verb: str, arguments: Sequence[Any]) -> PointChange:
    def size() -> int:
        return len(to_json(arguments)) * (1 if isinstance(chosen, engine.Filter) else len(chosen))

    if isinstance(chosen, engine.Filter):
        return PointChange(
            _one(getattr(engine.UpdateOperation, f"{verb}_by_filter")(chosen, *arguments)), None, None, size
        )
    operation: Any = getattr(engine.UpdateOperation, verb)
    operation(chosen, *arguments)  # for its checks, before a batch changes anything

    def make(there: Sequence[Any]) -> Iterator[engine.UpdateOperation]:
        if there:
            yield operation(list(there), *arguments)

    return PointChange(make, chosen, len(chosen), size)


def _one(operation: engine.UpdateOperation) -> Callable[[Sequence[Any]], Iterator[engine.UpdateOperation]]:
    return lambda _: iter([operation])
