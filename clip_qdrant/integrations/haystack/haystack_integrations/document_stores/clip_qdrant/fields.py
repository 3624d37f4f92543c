"""What the metadata of a collection hold: fields and types, least and greatest values, all values of one field."""

from __future__ import annotations

from typing import Any

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import FilterError
from clip_qdrant.fields.names import split_path
from clip_qdrant.fields.types import METADATA_PREFIX
from clip_qdrant.filters.build import Where, resolve_field
from haystack_integrations.document_stores.clip_qdrant.documents import DOCUMENT_ID

__all__ = ["find_limits", "list_fields", "list_values"]

_MOST_VALUES = 10_000  # what a collection counts of one field


def list_fields(images: ImageCollection) -> dict[str, dict[str, str]]:
    """The metadata fields, and the type of each."""
    own = {key: kind for key, kind in images.fields.items() if key.startswith(METADATA_PREFIX)}
    return {
        key.removeprefix(METADATA_PREFIX): {"type": kind}
        for key, kind in own.items()
        if key != METADATA_PREFIX + DOCUMENT_ID
    }


def find_limits(images: ImageCollection, name: str) -> dict[str, Any]:
    """`{"min": …, "max": …}` of a field that can be ordered; None where no image has it. Raises FilterError."""
    limits: dict[str, Any] = {}
    for limit, order, choose in (("min", name, min), ("max", f"-{name}", max)):
        hits = images.search(where={name: {"exists": True}}, order_by=order, limit=1)
        value = _read(hits[0].payload, resolve_field(name, images.fields)) if hits else None
        limits[limit] = choose(value) if isinstance(value, list) else value
    return limits


def list_values(images: ImageCollection, name: str, where: Where | None) -> list[Any]:
    """The values of a keyword, integer or bool field, in order; none for a field that is not there.

    Of more than 10,000 those that most images have. Raises FilterError for a field of another type.
    """
    try:
        facets = images.facet(name, where=where, limit=_MOST_VALUES)
    except FilterError as error:
        if error.unknown_field == name:
            return []
        raise
    return sorted(facet.value for facet in facets)


def _read(payload: Any, key: str) -> Any:
    for part in split_path(key):
        payload = payload[part]
    return payload
