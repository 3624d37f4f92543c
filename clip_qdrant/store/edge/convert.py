"""Between qdrant_client.models and the types of the embedded engine (qdrant_edge).

Every value is checked here, before the engine sees it: an update that the engine rejects is in its write-ahead log
already and may come back after a crash, NaN and zero vectors it does not reject at all, and booleans become integers
on the way unless they are numpy's.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import qdrant_edge as engine
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python
from qdrant_client import models

from clip_qdrant.errors import InvalidPoint, StoreError, UnsupportedByEdge, first_line
from clip_qdrant.store.edge.catalog import CollectionEntry

__all__ = [
    "from_index_info",
    "from_record",
    "from_scored",
    "is_index",
    "to_filter",
    "to_index",
    "to_payload",
    "to_point_id",
    "to_points",
    "to_rows",
    "to_with_payload",
    "to_with_vector",
]

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def to_point_id(value: object) -> int | uuid.UUID:
    """A point id as the engine takes it. InvalidPoint unless it is an unsigned 64-bit integer or a UUID."""
    if isinstance(value, uuid.UUID):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str):
        try:
            return uuid.UUID(value)
        except ValueError:
            pass
    raise InvalidPoint(f"{value!r} is not a point id; give an integer from 0 to 2^64 - 1 or a UUID")


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


def to_filter(condition: models.Filter | None) -> engine.Filter | None:
    """A filter as the engine takes it. UnsupportedByEdge for what it has no counterpart of."""
    if condition is None:
        return None
    if not isinstance(condition, models.Filter):
        raise UnsupportedByEdge(f"filters of type {type(condition).__name__}")
    least = condition.min_should
    if least is not None and least.min_count > len(least.conditions):
        # More than there are: nothing. With a payload index the engine may answer with what `should` selects.
        return engine.Filter(must=[engine.HasIdCondition(set())])
    return engine.Filter(
        must=_clause(condition.must),
        should=_clause(condition.should),
        must_not=_clause(condition.must_not),
        min_should=engine.MinShould(_clause(least.conditions) or [], least.min_count) if least else None,
    )


def _clause(conditions: object) -> list[Any] | None:
    if conditions is None:
        return None
    return [_condition(one) for one in (conditions if isinstance(conditions, list) else [conditions])]


def _condition(one: object) -> Any:
    match one:
        case models.Filter():
            return to_filter(one)
        case models.FieldCondition():
            return _field(one)
        case models.HasIdCondition():
            return engine.HasIdCondition({to_point_id(value) for value in one.has_id})
        case models.IsEmptyCondition():
            return engine.IsEmptyCondition(one.is_empty.key)
        case models.IsNullCondition():
            return engine.IsNullCondition(one.is_null.key)
        case models.HasVectorCondition():
            return engine.HasVectorCondition(one.has_vector)
        case models.NestedCondition():
            return engine.NestedCondition(one.nested.key, to_filter(one.nested.filter) or engine.Filter())
        case models.SliceCondition():
            return engine.SliceCondition(one.slice.total, one.slice.index)  # type: ignore[attr-defined]  # not in its stubs
    raise UnsupportedByEdge(f"the condition {type(one).__name__}")


def _field(one: models.FieldCondition) -> Any:
    booleans = (
        [value for value in one.match.any if isinstance(value, bool)] if isinstance(one.match, models.MatchAny) else []
    )
    if booleans:
        # Only a model made without validation gets here; a list of them would match as integers.
        return engine.Filter(should=[engine.FieldCondition(one.key, match=_value(value)) for value in booleans])
    box, circle, polygon, count = one.geo_bounding_box, one.geo_radius, one.geo_polygon, one.values_count
    return engine.FieldCondition(
        one.key,
        match=_match(one.match) if one.match else None,
        range=_range(one.range) if one.range else None,
        geo_bounding_box=engine.GeoBoundingBox(_geo(box.top_left), _geo(box.bottom_right)) if box else None,
        geo_radius=engine.GeoRadius(_geo(circle.center), circle.radius) if circle else None,
        geo_polygon=engine.GeoPolygon(_ring(polygon.exterior), [_ring(hole) for hole in polygon.interiors or []])
        if polygon
        else None,
        values_count=engine.ValuesCount(lt=count.lt, gt=count.gt, lte=count.lte, gte=count.gte) if count else None,
        is_empty=one.is_empty,
        is_null=one.is_null,
    )


def _match(match: object) -> Any:
    match match:
        case models.MatchValue():
            return _value(match.value)
        case models.MatchAny():
            return engine.MatchAny(match.any)
        case models.MatchExcept():
            return engine.MatchExcept(match.except_)
        case models.MatchText():
            return engine.MatchText(match.text)
        case models.MatchTextAny():
            return engine.MatchTextAny(match.text_any)
        case models.MatchPhrase():
            return engine.MatchPhrase(match.phrase)
        case models.MatchPrefix():
            return engine.MatchPrefix(match.prefix)
        case models.MatchSubstring():
            return engine.MatchSubstring(match.substring)
    raise UnsupportedByEdge(f"the match {type(match).__name__}")


class _Bool:
    """A boolean as the engine takes it: a Python bool is an int too, and would become 1 or 0, which no boolean equals.

    Its binding, PyO3, also takes for a boolean what says it is `numpy.bool_`. numpy's own is an int too before
    numpy 2.3, which Python 3.10 does not have.
    """

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value


_Bool.__module__, _Bool.__name__ = "numpy", "bool_"


def _value(value: bool | int | str) -> engine.MatchValue:
    return engine.MatchValue(_Bool(value) if isinstance(value, bool) else value)  # type: ignore[arg-type]  # see _Bool


def _range(bounds: models.RangeInterface) -> Any:
    if isinstance(bounds, models.Range):
        return engine.RangeFloat(**_tightest(bounds.gt, bounds.gte, bounds.lt, bounds.lte))
    moments = _tightest(_moment(bounds.gt), _moment(bounds.gte), _moment(bounds.lt), _moment(bounds.lte))
    return engine.RangeDateTime(**{name: moment.isoformat() for name, moment in moments.items()})


def _tightest(gt: Any, gte: Any, lt: Any, lte: Any) -> dict[str, Any]:
    # Of two bounds on one side the engine's payload indexes obey the open one alone, however far out it is.
    if gt is not None and gte is not None:
        gt, gte = (gt, None) if gt >= gte else (None, gte)
    if lt is not None and lte is not None:
        lt, lte = (lt, None) if lt <= lte else (None, lte)
    named = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
    return {name: bound for name, bound in named.items() if bound is not None}


def _moment(value: datetime | date | None) -> datetime | None:
    if value is not None and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    if value is not None and value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    return value


def _geo(point: models.GeoPoint) -> engine.GeoPoint:
    return engine.GeoPoint(lon=point.lon, lat=point.lat)


def _ring(line: models.GeoLineString) -> list[engine.GeoPoint]:
    return [_geo(point) for point in line.points]


def to_with_payload(choice: object) -> Any:
    """Which payload fields to read: bool, list of names or a selector."""
    match choice:
        case None:
            return False
        case bool():
            return choice
        case list() | tuple():
            return list(choice)
        case models.PayloadSelectorInclude():
            return engine.PayloadSelector.Include(choice.include)
        case models.PayloadSelectorExclude():
            return engine.PayloadSelector.Exclude(choice.exclude)
    raise UnsupportedByEdge(f"with_payload of type {type(choice).__name__}")


def to_with_vector(choice: object) -> bool:
    """Whether to read the vector. Only the unnamed one can be asked for."""
    if choice is None or isinstance(choice, bool):
        return bool(choice)
    if choice in ([""], ("",)):
        return True
    raise UnsupportedByEdge(f"named vectors (with_vectors={choice!r})")


def to_index(schema: object) -> Any:
    """The type or parameters of a payload index. UnsupportedByEdge for parameters that do not carry over."""
    if isinstance(schema, str):  # models.PayloadSchemaType is a str too
        if schema not in (kinds := [kind.value for kind in models.PayloadSchemaType]):
            raise StoreError(f"{schema!r} is no type of payload index; there are {', '.join(kinds)}")
        return getattr(engine.PayloadSchemaType, models.PayloadSchemaType(schema).value.capitalize())
    if type(schema).__name__ not in dir(models) or not hasattr(engine, type(schema).__name__):
        raise UnsupportedByEdge(f"a payload index given as {type(schema).__name__}")
    options: dict[str, Any] = schema.model_dump(exclude_none=True, exclude={"type"})  # type: ignore[attr-defined]  # checked: a pydantic model of models.*IndexParams
    for name in ("stopwords", "stemmer", "memory", "scoring"):
        if name in options:
            raise UnsupportedByEdge(f"a payload index with {name}")
    if "tokenizer" in options:
        options["tokenizer"] = getattr(engine.TokenizerType, models.TokenizerType(options["tokenizer"]).capitalize())
    return getattr(engine, type(schema).__name__)(**options)


def is_index(there: engine.PayloadIndexInfo, wanted: object) -> bool:
    """Whether a payload index is the one that `wanted`, from `to_index`, asks for."""
    if there.params is None or type(there.params) is not type(wanted):
        return there.params is None and there.data_type == wanted
    # The engine's parameters are equal only to themselves.
    names = [name for name in dir(wanted) if not name.startswith("_")]
    return all(getattr(there.params, name) == getattr(wanted, name) for name in names)


def from_index_info(info: engine.PayloadIndexInfo) -> models.PayloadIndexInfo:
    """What a collection tells of one payload index."""
    kind = models.PayloadSchemaType(str(info.data_type).rpartition(".")[2].lower())
    params = None
    if isinstance(info.params, engine.TextIndexParams):
        params = models.TextIndexParams(
            type=models.TextIndexType.TEXT,
            tokenizer=models.TokenizerType(str(info.params.tokenizer).rpartition(".")[2].lower()),
            lowercase=info.params.lowercase,
            phrase_matching=info.params.phrase_matching,
            min_token_len=info.params.min_token_len,
            max_token_len=info.params.max_token_len,
        )
    return models.PayloadIndexInfo(data_type=kind, params=params, points=info.points)


def from_record(record: engine.Record) -> models.Record:
    """A stored point."""
    return models.Record(id=_id(record.id), payload=record.payload, vector=_dense(record.vector))


def from_scored(point: engine.ScoredPoint) -> models.ScoredPoint:
    """A stored point with its score."""
    return models.ScoredPoint(
        id=_id(point.id), version=point.version, score=point.score, payload=point.payload, vector=_dense(point.vector)
    )


def _dense(vector: Any) -> list[float] | None:
    # No collection here has any other kind.
    return vector if vector is None else list(vector)


def _id(value: object) -> int | str:
    return value if isinstance(value, int) else str(value)
