"""Payloads and points, checked before they are written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import qdrant_edge as engine
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python
from qdrant_client import models

from clip_qdrant.errors import InvalidPoint, first_line
from clip_qdrant.store.edge.convert.ids import to_point_id
from clip_qdrant.store.edge.convert.vectors import to_vectors
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = ["to_payload", "to_points"]


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
    if isinstance(points, models.Batch):
        ids = list(points.ids)
        payloads: list[Any] = list(points.payloads) if points.payloads else [None] * len(ids)
        vectors = _split_columns(points.vectors, len(ids))
        if not len(ids) == len(vectors) == len(payloads):
            raise InvalidPoint(f"{len(ids)} ids, {len(vectors)} vectors and {len(payloads)} payloads do not match")
    else:
        points = [_point_struct(point) for point in points]
        ids, payloads, vectors = [p.id for p in points], [p.payload for p in points], [p.vector for p in points]
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


def _point_struct(point: object) -> models.PointStruct:
    """A point as it is, or made of the dict of one, as a server takes it. Raises InvalidPoint."""
    if isinstance(point, models.PointStruct):
        return point
    try:
        return models.PointStruct.model_validate(point)
    except ValidationError as error:
        where = ", ".join(str(part) for part in error.errors()[0]["loc"]) or type(point).__name__
        told = f"{repr(point)[:80]} is no point ({where}): give models.PointStruct(id, vector, payload)"
        raise InvalidPoint(told) from None
