"""What a client sends: queries, images and filters as JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from clip_qdrant.collection.query import Query, Term
from clip_qdrant.collection.search.run import query_of
from clip_qdrant.errors import EmptyImage, FilterError, MetadataError
from clip_qdrant.fields.types import Location
from clip_qdrant.fields.values import describe_value
from clip_qdrant.images.load import read_bytes

if TYPE_CHECKING:
    from clip_qdrant.images.load import ImageInput

__all__ = ["SentQuery", "encode_image", "encode_metadata", "encode_query", "encode_where"]

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
    """JSON of a filter: its text, or the dict. Raises FilterError for what cannot be sent."""
    return _encode(
        where, lambda value: FilterError(f"where is sent as text or as a dict, and cannot hold {describe_value(value)}")
    )


def encode_metadata(metadata: Mapping[str, Any]) -> Any:
    """JSON of metadata. Raises MetadataError for a value that cannot be sent."""
    return _encode(metadata, lambda value: MetadataError(f"metadata cannot hold {describe_value(value)}"))


def _encode(value: Any, refuse: Callable[[Any], Exception]) -> Any:
    """JSON types: dates as ISO 8601, places as objects."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, Location):
        return {"lat": value.lat, "lon": value.lon}
    if isinstance(value, Mapping):
        return {str(name): _encode(part, refuse) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_encode(part, refuse) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    raise refuse(value)
