"""What a client sends: queries, images and filters as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from clip_qdrant.collection.query import Query, Term
from clip_qdrant.collection.search.run import query_of
from clip_qdrant.errors import EmptyImage, FilterError
from clip_qdrant.fields.values import describe_value
from clip_qdrant.images.load import read_bytes

if TYPE_CHECKING:
    from clip_qdrant.images.load import ImageInput

__all__ = ["SentQuery", "encode_image", "encode_query", "encode_where"]

# What `ImageCollection.search` takes, or the JSON of it: {"url": "https://…"}, a list of such terms.
SentQuery: TypeAlias = "str | Query | ImageInput | Sequence[float] | Mapping[str, Any] | Sequence[Mapping[str, Any]]"


def encode_query(query: SentQuery) -> Any:
    """JSON of a query. An image that is a file of this computer is sent as a whole."""
    if isinstance(query, Mapping) or _is_terms(query):
        return query
    return [_encode_term(term) for term in query_of(query).terms]


def _is_terms(query: Any) -> bool:
    return isinstance(query, list | tuple) and bool(query) and all(isinstance(one, str | Mapping) for one in query)


def _encode_term(term: Term) -> dict[str, Any]:
    told: dict[str, Any] = {"weight": term.weight} if term.weight != 1 else {}
    if term.kind == "image":
        told["image"] = encode_image(term.value)
        if term.box is not None:
            told["box"] = list(term.box)
    elif term.kind == "vector":
        told["vector"] = term.value.tolist()
    else:
        told[term.kind] = term.value
    if term.raw:
        told["raw"] = True
    return told


def encode_image(image: ImageInput) -> str:
    """The bytes of an image in base64; of pixels those of a PNG."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if isinstance(image, Image.Image):
        file = io.BytesIO()
        image.save(file, "PNG")
        image = file.getvalue()
    content = image if isinstance(image, bytes) else read_bytes(image)
    if not content:
        raise EmptyImage("an image has no bytes")
    return base64.b64encode(content).decode("ascii")


def encode_where(where: Any) -> Any:
    """JSON of a filter: its text, or the dict with dates as texts. Raises FilterError for what cannot be sent."""
    if where is None or isinstance(where, str | bool | int | float):
        return where
    if isinstance(where, datetime | date):
        return where.isoformat()
    if isinstance(where, Mapping):
        return {str(name): encode_where(value) for name, value in where.items()}
    if isinstance(where, list | tuple | set | frozenset):
        return [encode_where(value) for value in where]
    if isinstance(where, np.generic):
        return where.item()
    if isinstance(where, Path):
        return str(where)
    raise FilterError(f"where is sent as text or as a dict, and cannot hold {describe_value(where)}")
