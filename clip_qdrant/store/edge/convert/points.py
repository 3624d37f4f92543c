"""Vectors, payloads and points, checked before they are written."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import qdrant_edge as engine
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python
from qdrant_client import models

from clip_qdrant.errors import InvalidPoint, UnsupportedByEdge, first_line
from clip_qdrant.store.edge.convert.ids import to_point_id
from clip_qdrant.store.edge.files.catalog import CollectionEntry

__all__ = ["to_payload", "to_points", "to_rows"]

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def to_rows(names: Sequence[str], vectors: Iterable[object], entry: CollectionEntry) -> npt.NDArray[np.float32]:
    """Vectors checked against their collection, (n, size) float32; rows have norm 1 if the distance is Cosine.

    `names` say in an error which vector it was. Raises InvalidPoint, or UnsupportedByEdge for sparse, multi and
    inferred vectors.
    """
    rows = [_row(name, vector, entry.size) for name, vector in zip(names, vectors, strict=True)]
    matrix = np.stack(rows)
    bad = np.flatnonzero(~(np.abs(matrix) <= _MAX_FLOAT32).all(axis=1))
    if bad.size:
        raise InvalidPoint(f"{names[bad[0]]}: the vector has values that are not finite float32 numbers")
    if entry.distance == "Cosine":
        # Divided by the largest value first: squares of very large or very small values leave even float64.
        peaks = np.abs(matrix).max(axis=1, keepdims=True)
        if not peaks.all():
            name = names[int(np.flatnonzero(peaks[:, 0] == 0)[0])]
            raise InvalidPoint(f"{name}: the vector is all zeros and has no direction to compare by cosine")
        matrix /= peaks
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix.astype(np.float32)


def _row(name: str, vector: object, size: int) -> npt.NDArray[np.float64]:
    if isinstance(vector, Mapping):
        if set(vector) != {""}:
            raise InvalidPoint(
                f"{name}: vector names {sorted(vector)} do not fit, the collection has one unnamed vector"
            )
        vector = vector[""]
    if not isinstance(vector, list | tuple | np.ndarray):
        raise UnsupportedByEdge(f"vectors of type {type(vector).__name__}")
    try:
        row = np.asarray(vector, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InvalidPoint(f"{name}: the vector is not a list of numbers ({error})") from error
    if row.ndim == 2:
        raise UnsupportedByEdge("multivectors")
    if row.shape != (size,):
        raise InvalidPoint(f"{name}: the vector has shape {row.shape}, the collection takes {size} numbers")
    return row


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


def _point(name: str, key: int | uuid.UUID, vector: list[float], payload: dict[str, Any]) -> engine.Point:
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
        vectors: Any = points.vectors
        if isinstance(vectors, Mapping):
            if set(vectors) != {""}:
                raise InvalidPoint(f"vector names {sorted(vectors)} do not fit, the collection has one unnamed vector")
            vectors = vectors[""]
        columns: list[Any] = list(vectors)
        if not len(ids) == len(columns) == len(payloads):
            raise InvalidPoint(f"{len(ids)} ids, {len(columns)} vectors and {len(payloads)} payloads do not match")
    else:
        points = [_point_struct(point) for point in points]
        ids, payloads, columns = [p.id for p in points], [p.payload for p in points], [p.vector for p in points]
    keys = [to_point_id(value) for value in ids]
    names = [f"point {value}" for value in ids]
    if not names:
        raise InvalidPoint("there are no points to write")
    rows = to_rows(names, columns, entry).tolist()
    plain = map(_jsonable, names, payloads)
    return [_point(*parts) for parts in zip(names, keys, rows, plain, strict=True)]


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
