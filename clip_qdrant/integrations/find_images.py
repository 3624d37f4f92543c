"""Images that a query finds, without the texts that integrations may have put beside them."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

from clip_qdrant.collection.hits import Hits
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.errors import QueryError
from clip_qdrant.filters.build import Where
from clip_qdrant.integrations.payloads import NO_TEXTS, is_text

__all__ = ["find", "find_images", "join_filters", "limit_to"]

# As all texts are, and images that were stored as vectors. An offset would count the texts of the pages before.
_HAVE_NO_IMAGE = "image.sha256 is null"
_with_texts: weakref.WeakSet[ImageCollection] = weakref.WeakSet()  # in which a search has met one


def find(images: ImageCollection, query: Any, *, where: Where | None, options: SearchOptions) -> Hits:
    """The hits of one query with their whole payloads, which Documents are made of."""
    return images.search_batch([query], where=where, options=replace(options, payload=True))[0]


def find_images(images: ImageCollection, query: Any, *, where: Where | None, options: SearchOptions) -> Hits:
    """The same of images alone.

    A collection of images alone pays nothing for it. Once there is a text among the hits the store is asked again,
    without texts, and at once from then on.
    """
    if images not in _with_texts and not (options.offset and images.count(_HAVE_NO_IMAGE)):
        hits = find(images, query, where=where, options=options)
        if not any(is_text(hit.uri) for hit in hits):
            return hits
        _with_texts.add(images)
    return find(images, query, where=join_filters(where, NO_TEXTS), options=options)


def limit_to(number: int, options: SearchOptions | None) -> SearchOptions:
    """The options with this limit. Raises QueryError for what are none."""
    if options is not None and not isinstance(options, SearchOptions):
        raise QueryError(f"options takes a SearchOptions (clip_qdrant.collection.search.options), not {options!r}")
    return replace(options or SearchOptions(), limit=number)


def join_filters(first: Where | None, second: Where | None) -> Where | None:
    """What holds where both hold; None and an empty text or dict are no condition."""
    wanted = [one for one in (first, second) if not _is_empty(one)]
    return {"and": wanted} if len(wanted) == 2 else next(iter(wanted), None)


def _is_empty(where: Where | None) -> bool:
    return where is None or (isinstance(where, str) and not where.strip()) or where == {}
