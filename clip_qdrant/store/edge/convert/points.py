"""Payloads and points, checked before they are written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import qdrant_edge as engine
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python
from qdrant_client import models

from clip_qdrant.errors import InvalidPoint, first_line
from clip_qdrant.store.edge.convert.ids import to_point_id
from clip_qdrant.store.edge.convert.vectors import to_vectors
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = ["to_payload", "to_point_vectors", "to_points"]

_M = TypeVar("_M", bound=BaseModel)


def to_payload(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload in JSON types (datetimes and UUIDs become text, as on a server). InvalidPoint if it has none."""
    plain: dict[str, Any] = _jsonable("payload", payload)
    _point("payload", 0, [0.0], plain)  # for its checks
    return plain


def _jsonable(name: str, payload: Mapping[str, Any] | None) -> Any:
    try:
        return to_jsonable_python(payload or {})
    except PydanticSerializationError as error:
        raise InvalidPoint(f"{name}: the payload cannot be stored as JSON ({error})") from error


def _point(name: str, key: int | uuid.UUID, vector: Any, payload: dict[str, Any]) -> engine.Point:
    # The engine refuses NaN, lone surrogates and keys that are no text here, when the point is made. Making it takes
    # most of the time of a write (0.15 ms for a payload of twenty values), so it is made once.
    try:
        return engine.Point(key, vector, payload)
    except (TypeError, ValueError) as error:
        raise InvalidPoint(f"{name}: the payload cannot be stored as JSON ({first_line(error)})") from error


def to_points(points: models.Batch | Sequence[models.PointStruct], entry: CollectionEntry) -> list[engine.Point]:
    """Checked points of the engine. Raises InvalidPoint naming the wrong one, before anything is written."""
    if isinstance(points, Mapping) and "ids" in points:
        points = _validate(models.Batch, points)
    if isinstance(points, models.Batch):
        ids = list(points.ids)
        payloads: list[Any] = list(points.payloads) if points.payloads else [None] * len(ids)
        vectors = _split_columns(points.vectors, len(ids))
        if not len(ids) == len(vectors) == len(payloads):
            raise InvalidPoint(f"{len(ids)} ids, {len(vectors)} vectors and {len(payloads)} payloads do not match")
    else:
        structs = [_point_struct(point) for point in points]
        ids, payloads = [p.id for p in structs], [p.payload for p in structs]
        vectors = [{} if p.vector is None else p.vector for p in structs]
    keys = [to_point_id(value) for value in ids]
    names = [f"point {value}" for value in ids]
    if not names:
        raise InvalidPoint("there are no points to write")
    checked = to_vectors(names, vectors, entry)
    plain = map(_jsonable, names, payloads)
    return [_point(*parts) for parts in zip(names, keys, checked, plain, strict=True)]


def _split_columns(vectors: Any, number: int) -> list[Any]:
    """The vectors of each point, of a list of them or of columns by name."""
    if not isinstance(vectors, Mapping):
        return list(vectors)
    for name, column in vectors.items():
        if len(column) != number:
            raise InvalidPoint(f"{number} ids, {len(column)} vectors {name!r} do not match")
    return [{name: column[at] for name, column in vectors.items()} for at in range(number)]


def to_point_vectors(points: Sequence[models.PointVectors], entry: CollectionEntry) -> list[engine.PointVectors]:
    """Vectors of points by their ids. Raises InvalidPoint naming the wrong one, before anything is written."""
    structs = [one if isinstance(one, models.PointVectors) else _validate(models.PointVectors, one) for one in points]
    if not structs:
        raise InvalidPoint("there are no vectors to write")
    names = [f"point {one.id}" for one in structs]
    keys = [to_point_id(one.id) for one in structs]
    vectors = to_vectors(names, [one.vector for one in structs], entry)
    return [engine.PointVectors(key, vector) for key, vector in zip(keys, vectors, strict=True)]


def _point_struct(point: object) -> models.PointStruct | models.Record:
    """A point as it is, or made of the dict of one, as a server takes it. Raises InvalidPoint."""
    # Points of one client are written with another as they were read.
    return point if isinstance(point, models.PointStruct | models.Record) else _validate(models.PointStruct, point)


def _validate(kind: type[_M], given: object) -> _M:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        where = ", ".join(str(part) for part in error.errors()[0]["loc"]) or type(given).__name__
        fields = ", ".join(kind.model_fields)
        told = f"{repr(given)[:80]} is no point ({where}): give models.{kind.__name__}({fields})"
        raise InvalidPoint(told) from None
