"""Points as a collection writes and reads them: their ids, the check of their vectors, and what comes back as a hit."""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from qdrant_client import models

from clip_qdrant.collection.hits import Hit
from clip_qdrant.errors import InvalidPoint, MetadataError, QueryError, shorten
from clip_qdrant.records import ImageRecord
from clip_qdrant.uris import LONGEST_URI, point_id, to_uri
from clip_qdrant.url_secrets import remove_secrets

__all__ = [
    "batches",
    "check_uri",
    "check_vectors",
    "check_whole_number",
    "count_bytes",
    "dense_vector",
    "id_of",
    "make_hit",
    "split_requests",
]

_T = TypeVar("_T")
_REQUEST = 24 << 20  # bytes; a Qdrant server takes 32 MB unless it is set up otherwise (service.max_request_size_mb)
_BYTES_A_NUMBER = 25  # of a float in JSON, at most
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NORM_TOLERANCE = 1e-3
_SHOWN = 80  # characters of a uri that is too long


def id_of(image: str | os.PathLike[str]) -> str:
    """The point id of a stored image that is named by its uri, path or point id. QueryError for what is none."""
    if not isinstance(image, str | os.PathLike):
        raise QueryError(f"{image!r} names no stored image; give its uri, path or point id")
    if isinstance(image, str):
        return image.lower() if _UUID.fullmatch(image) else point_id(remove_secrets(to_uri(image)))
    return point_id(to_uri(Path(image)))


def make_hit(
    point: models.ScoredPoint | models.Record,
    score: float | None,
    *,
    copies: tuple[str, ...] = (),
    shares: Mapping[str, float] | None = None,
    relevance: float | None = None,
    vector: np.ndarray | None = None,
    parts: Mapping[str, float] | None = None,
) -> Hit:
    """A point as a hit; one that another program wrote may lack every part of the payload profile."""
    payload = point.payload or {}
    return Hit(
        id=str(point.id),
        score=score,
        uri=payload.get("uri", ""),
        caption=payload.get("caption"),
        metadata=payload.get("metadata") or {},
        payload=payload,
        copies=copies,
        shares=shares or {},
        relevance=relevance,
        vector=vector,
        parts=parts or {},
    )


def dense_vector(vector: Any) -> np.ndarray | None:
    """The vector of the image in what a point came with, float32 (dim,): its unnamed one where there are others."""
    if isinstance(vector, Mapping):
        vector = vector.get("")
    return None if vector is None else np.asarray(vector, np.float32)


def check_vectors(records: Sequence[ImageRecord], vectors: np.ndarray, *, dim: int) -> np.ndarray:
    """The vectors of `records` as float32 (n, dim).

    Qdrant takes NaN and zero vectors and then finds nonsense, and keeps a rejected one in its log; so anything that is
    no unit row of `dim` floats is an InvalidPoint that names the uri, before any call.
    """
    rows = np.asarray(vectors)
    if rows.ndim != 2 or rows.shape != (len(records), dim) or rows.dtype.kind != "f":
        first = f" for {records[0].uri} and those after it" if records else ""
        raise InvalidPoint(
            f"vectors{first} must be floats of shape {(len(records), dim)}, one row an image, "
            f"not {rows.dtype} of shape {rows.shape}"
        )
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))  # written so that NaN is bad too
    if len(bad):
        norm = norms[bad[0]]
        what = f"has length {norm:.6g}, not 1" if np.isfinite(norm) else "has values that are not finite"
        raise InvalidPoint(f"the vector of {records[bad[0]].uri} {what}; normalise it, or embed the image again")
    return rows.astype(np.float32, copy=False)


def check_uri(uri: str) -> None:
    """MetadataError if a uri is no text that JSON can hold, or too long (caption and metadata: see `Schema`)."""
    if not isinstance(uri, str) or not uri:
        raise MetadataError(f"{uri or 'an image'}: uri must be text, not {uri!r}")
    if len(uri) > LONGEST_URI:
        told = shorten(uri, _SHOWN)
        raise MetadataError(f"{told}: a uri of {len(uri)} characters is longer than the {LONGEST_URI} of the longest")
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise MetadataError(f"{uri!r}: uri {uri!r} is not valid Unicode text; clean it") from None


def count_bytes(payload: Mapping[str, Any] | None, numbers: int) -> int:
    """About how many bytes of JSON a payload and so many numbers of vectors are."""
    return len(json.dumps(payload, ensure_ascii=False).encode()) + _BYTES_A_NUMBER * numbers


def split_requests(items: Sequence[_T], sizes: Iterable[int]) -> Iterator[list[_T]]:
    """The items, in order, in as few requests as a server takes. `sizes` are their bytes."""
    some: list[_T] = []
    total = 0
    for item, size in zip(items, sizes, strict=True):
        if some and total + size > _REQUEST:
            yield some
            some, total = [], 0
        some.append(item)
        total += size
    if some:
        yield some


def check_whole_number(name: str, value: int, *, at_least: int) -> int:
    """An argument of a query as int; QueryError naming it if it is none or too small."""
    try:
        number = operator.index(value)
    except TypeError:
        raise QueryError(f"{name} must be a whole number, not {value!r}") from None
    if isinstance(value, bool) or number < at_least:
        raise QueryError(f"{name} must be a whole number of at least {at_least}, not {value!r}")
    return number


def batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The items in lists of `size`, the last one shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
