"""What the integrations have in common: images that a query finds, without the texts that may lie beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clip_qdrant.collection.hits import Hit, Hits
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.filters.build import Where

__all__ = ["find", "find_images", "join_filters"]

_ARE_IMAGES = "image.sha256 exists"


def find(images: ImageCollection, query: Any, *, where: Where | None, options: SearchOptions) -> Hits:
    """The hits of one query with their whole payloads, which Documents are made of."""
    return images.search_batch([query], where=where, options=replace(options, payload=True))[0]


def find_images(images: ImageCollection, query: Any, *, where: Where | None, options: SearchOptions) -> Hits:
    """The same of images alone. The store is asked twice only where there are texts among the hits."""
    hits = find(images, query, where=where, options=options)
    if all(map(_is_image, hits)):
        return hits
    return find(images, query, where=join_filters(where, _ARE_IMAGES), options=options)


def join_filters(first: Where | None, second: Where | None) -> Where | None:
    """What holds where both hold; None and an empty text or dict are no condition."""
    wanted = [one for one in (first, second) if not _is_empty(one)]
    return {"and": wanted} if len(wanted) == 2 else next(iter(wanted), None)


def _is_empty(where: Where | None) -> bool:
    return where is None or (isinstance(where, str) and not where.strip()) or where == {}


def _is_image(hit: Hit) -> bool:
    return bool(hit.payload.get("image"))
