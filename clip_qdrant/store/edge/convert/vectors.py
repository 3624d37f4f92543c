"""Vectors of every kind, checked against their collection before the engine sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import InvalidPoint, UnsupportedByEdge
from clip_qdrant.store.edge.convert.bm25 import embed_text
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = ["count_bytes", "to_query_vector", "to_vectors"]

_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_MAX_FLOAT16 = float(np.finfo(np.float16).max)


def to_vectors(names: Sequence[str], vectors: Sequence[object], entry: CollectionEntry) -> list[Any]:
    """The vectors of points as the engine takes them: a list where it is the unnamed dense one, else a dict by name.

    Each is a list or array, a multivector, a SparseVector or a Document of BM25, or a mapping of such by name; dicts
    stand for models.
    `names` say in an error which point it was. Dense vectors have norm 1 if their distance is Cosine.
    Raises InvalidPoint for what does not fit, UnsupportedByEdge for what would have to be inferred.
    """
    columns: dict[str, tuple[list[int], list[object]]] = {}
    named = [False] * len(vectors)
    for at, vector in enumerate(vectors):
        if isinstance(vector, Mapping):
            named[at] = True
            for name, one in vector.items():
                rows = columns.setdefault(name, ([], []))
                rows[0].append(at)
                rows[1].append(one)
        else:
            rows = columns.setdefault("", ([], []))
            rows[0].append(at)
            rows[1].append(vector)
    if set(columns) == {""} and not any(named):
        return _to_column(names, columns[""][1], entry, "")
    results: list[dict[str, Any]] = [{} for _ in vectors]
    for name, (places, column) in columns.items():
        for at, one in zip(places, _to_column([names[at] for at in places], column, entry, name), strict=True):
            results[at][name] = one
    return list(results)


def to_query_vector(vector: object, entry: CollectionEntry, using: str = "", what: str = "query") -> Any:
    """A vector to compare with the stored ones named `using`: a list, a list of lists, or the engine's SparseVector.

    A plain vector asks a multivector too, as one that has a single row. `what` says in an error which one it was.
    Raises InvalidPoint if it does not fit.
    """
    params = entry.dense.get(using)
    if params is not None and params.multivector_config is not None and _ndim(vector) == 1:
        vector = [vector]
    return _to_column([what], [vector], entry, using, is_query=True)[0]


def count_bytes(vector: Any) -> int:
    """The bytes that a vector of the engine takes."""
    if isinstance(vector, dict):
        return sum(count_bytes(one) for one in vector.values())
    if isinstance(vector, engine.SparseVector):
        return 8 * len(vector.indices)
    if vector and isinstance(vector[0], list):
        return sum(4 * len(row) for row in vector)
    return 4 * len(vector or [])


def _to_column(
    names: Sequence[str], column: Sequence[object], entry: CollectionEntry, vector_name: str, *, is_query: bool = False
) -> list[Any]:
    """The vectors of one name."""
    if vector_name in entry.sparse:
        return [_to_sparse(name, one, is_query) for name, one in zip(names, column, strict=True)]
    params = entry.dense.get(vector_name)
    if params is None:
        there = sorted({*entry.dense, *entry.sparse})
        what = f"vector name {vector_name!r} does" if vector_name else "an unnamed vector does"
        raise InvalidPoint(f"{names[0]}: {what} not fit, the collection has {_list_names(there)}")
    if params.multivector_config is not None:
        return [_to_multi(name, one, params) for name, one in zip(names, column, strict=True)]
    rows: list[Any] = _to_rows(names, column, params).tolist()
    return rows


def _list_names(names: Sequence[str]) -> str:
    if not names:
        return "no vectors"
    return ", ".join(repr(name) if name else "one unnamed vector" for name in names)


def _to_rows(names: Sequence[str], vectors: Iterable[object], params: models.VectorParams) -> npt.NDArray[np.float32]:
    """Dense vectors, (n, size) float32."""
    matrix = np.stack([_to_row(name, vector, params.size) for name, vector in zip(names, vectors, strict=True)])
    largest = _MAX_FLOAT32
    normal = params.distance == models.Distance.COSINE
    if params.datatype == models.Datatype.FLOAT16 and not normal:
        largest = _MAX_FLOAT16
    peaks = np.abs(matrix).max(axis=1, keepdims=True)  # NaN where there is one
    if not (peaks <= largest).all():
        bad = np.flatnonzero(~(peaks[:, 0] <= largest))
        kind = "float32" if largest == _MAX_FLOAT32 else "float16"
        raise InvalidPoint(f"{names[bad[0]]}: the vector has values that are not finite {kind} numbers")
    if normal:
        # Divided by the largest value first: squares of very large or very small values leave even float64.
        if not peaks.all():
            name = names[int(np.flatnonzero(peaks[:, 0] == 0)[0])]
            raise InvalidPoint(f"{name}: the vector is all zeros and has no direction to compare by cosine")
        if params.datatype != models.Datatype.UINT8:  # kept as bytes, as on a server: of a unit vector none is left
            matrix /= peaks
            matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix.astype(np.float32)


def _to_row(name: str, vector: object, size: int) -> npt.NDArray[np.float64]:
    row = _to_array(name, vector)
    if row.shape != (size,):
        raise InvalidPoint(f"{name}: the vector has shape {row.shape}, the collection takes {size} numbers")
    return row


def _to_multi(name: str, vector: object, params: models.VectorParams) -> list[list[float]]:
    rows = _to_array(name, vector)
    if rows.ndim != 2 or rows.shape[1] != params.size or not len(rows):
        raise InvalidPoint(
            f"{name}: the multivector has shape {rows.shape}, the collection takes one or more rows of {params.size}"
        )
    matrix: list[list[float]] = _to_rows([name] * len(rows), rows, params).tolist()
    return matrix


def _to_array(name: str, vector: object) -> npt.NDArray[np.float64]:
    if isinstance(vector, models.SparseVector | Mapping):
        raise InvalidPoint(f"{name}: a sparse vector does not fit, the collection takes a dense one there")
    if not isinstance(vector, list | tuple | np.ndarray):
        raise _refuse(name, vector)
    try:
        return np.asarray(vector, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InvalidPoint(f"{name}: the vector is not a list of numbers ({error})") from error


def _to_sparse(name: str, vector: object, is_query: bool) -> engine.SparseVector:
    match vector:
        case models.SparseVector(indices=indices, values=values):
            pass
        case {"indices": indices, "values": values}:
            pass
        case engine.SparseVector():
            return vector
        case models.Document():
            return embed_text(name, vector, is_query=is_query)
        case {"text": str(), "model": str()}:
            return embed_text(name, models.Document.model_validate(vector), is_query=is_query)
        case list() | tuple() | np.ndarray():
            raise InvalidPoint(f"{name}: a dense vector does not fit, the collection takes a sparse one there")
        case _:
            raise _refuse(name, vector)
    numbers = list(indices)
    whole = all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in numbers)
    if not whole or not all(0 <= one < 2**32 for one in numbers) or len(set(numbers)) < len(numbers):
        raise InvalidPoint(f"{name}: the indices of a sparse vector must be different whole numbers from 0 to 2^32 - 1")
    weights = _to_array(name, list(values))
    if weights.shape != (len(numbers),):
        raise InvalidPoint(f"{name}: the sparse vector has {len(numbers)} indices and {weights.size} values")
    if not (np.abs(weights) <= _MAX_FLOAT32).all():
        raise InvalidPoint(f"{name}: the vector has values that are not finite float32 numbers")
    return engine.SparseVector([int(one) for one in numbers], weights.tolist())


def _ndim(vector: object) -> int:
    if isinstance(vector, np.ndarray):
        return vector.ndim
    if isinstance(vector, list | tuple):
        return 2 if len(vector) and isinstance(vector[0], list | tuple | np.ndarray) else 1
    return 0


def _refuse(name: str, vector: object) -> Exception:
    if isinstance(vector, models.Document | models.Image | models.InferenceObject):
        return UnsupportedByEdge(f"the inference of vectors ({type(vector).__name__})")
    return InvalidPoint(f"{name}: {type(vector).__name__} is no vector")
