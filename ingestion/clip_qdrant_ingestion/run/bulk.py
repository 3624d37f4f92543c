"""Bulk load: a server's indexing switched off while many images come in, and on again after it.

The threshold from before is kept in the metadata of the collection meanwhile, so that what a run leaves that was killed
is put back by the next one of any kind.

Source: https://qdrant.tech/documentation/database-tutorials/bulk-upload/
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from qdrant_client import models

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.indexing import KEPT_THRESHOLD, kept_threshold
from clip_qdrant.errors import CollectionNotFound, StoreError, UnsupportedByEdge
from clip_qdrant.store.calls import call
from clip_qdrant.store.connect import is_embedded

__all__ = ["bulk_load", "put_indexing_back"]

logger = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds
_DEFAULT_THRESHOLD = 10_000  # kB of vectors; Qdrant's own, for a collection that was at 0 before


@contextlib.contextmanager
def bulk_load(collection: ImageCollection) -> Iterator[None]:
    """No HNSW index is built while the context lasts; at its end, by an error too, the threshold is what it was before.

    A threshold of 0 that nobody knows the reason of becomes Qdrant's own. One such run at a time.

    Raises UnsupportedByEdge for an embedded store, which builds none anyway; StoreError.
    """
    if is_embedded(collection.client):
        raise UnsupportedByEdge("bulk load: it keeps no index that could be switched off")
    collection.writer.prepare([])  # so that there is one
    config = _read_config(collection)
    before = kept_threshold(config) or config.optimizer_config.indexing_threshold or _DEFAULT_THRESHOLD
    try:
        _update(collection, f"keeping the indexing threshold of {collection.name!r}", metadata={KEPT_THRESHOLD: before})
        _set(collection, 0)
        yield
    except BaseException:
        try:
            _put_back(collection, before)
        except StoreError as error:  # what ended the load is told, not this
            logger.warning("%s; the next run puts it back", error)
        raise
    _put_back(collection, before)


def put_indexing_back(collection: ImageCollection) -> None:
    """Switches on again the indexing that a bulk load switched off which was killed. Raises StoreError."""
    if is_embedded(collection.client):
        return
    try:
        kept = kept_threshold(_read_config(collection))
    except CollectionNotFound:
        return
    if kept is not None:
        logger.warning("a bulk load into %r was killed: its indexing is switched on again", collection.name)
        _put_back(collection, kept)


def _read_config(collection: ImageCollection) -> models.CollectionConfig:
    return call(
        lambda: collection.client.get_collection(collection.name),
        what=f"reading {collection.name!r}",
        patience=_PATIENCE,
    ).config


def _put_back(collection: ImageCollection, threshold: int) -> None:
    """The threshold first: a kill in between leaves it to be set once more."""
    _set(collection, threshold)
    _update(collection, f"forgetting the indexing threshold of {collection.name!r}", metadata={KEPT_THRESHOLD: None})


def _set(collection: ImageCollection, threshold: int) -> None:
    config = models.OptimizersConfigDiff(indexing_threshold=threshold)
    what = f"setting the indexing threshold of {collection.name!r} to {threshold}"
    _update(collection, what, optimizers_config=config)


def _update(
    collection: ImageCollection,
    what: str,
    *,
    optimizers_config: models.OptimizersConfigDiff | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    call(
        lambda: collection.client.update_collection(
            collection.name, optimizers_config=optimizers_config, metadata=metadata
        ),
        what=what,
        patience=_PATIENCE,
    )
