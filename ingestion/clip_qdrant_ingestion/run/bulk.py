"""Bulk load: a server's indexing switched off while many images come in, and on again after it.

Source: https://qdrant.tech/documentation/database-tutorials/bulk-upload/
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from qdrant_client import models

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import StoreError, UnsupportedByEdge
from clip_qdrant.store.calls import call
from clip_qdrant.store.edge.client import EdgeClient

__all__ = ["bulk_load"]

logger = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds
_DEFAULT_THRESHOLD = 10_000  # kB of vectors; Qdrant's own, for a collection left at 0 by a run that was killed


@contextlib.contextmanager
def bulk_load(collection: ImageCollection) -> Iterator[None]:
    """No HNSW index is built while the context lasts; at its end, by an error too, the threshold is what it was before.

    A threshold of 0, as a run leaves it that was killed, becomes Qdrant's own. One such run at a time.

    Raises UnsupportedByEdge for an embedded store, which builds none anyway; StoreError.
    """
    if isinstance(collection.client, EdgeClient):
        raise UnsupportedByEdge("bulk load: it keeps no index that could be switched off")
    collection.writer.prepare([])  # so that there is one
    info = call(
        lambda: collection.client.get_collection(collection.name),
        what=f"reading {collection.name!r}",
        patience=_PATIENCE,
    )
    before = info.config.optimizer_config.indexing_threshold or _DEFAULT_THRESHOLD
    try:
        _set(collection, 0)
        yield
    except BaseException:
        try:
            _set(collection, before)
        except StoreError as error:  # what ended the load is told, not this
            logger.warning("%s; the next bulk load sets it right", error)
        raise
    _set(collection, before)


def _set(collection: ImageCollection, threshold: int) -> None:
    config = models.OptimizersConfigDiff(indexing_threshold=threshold)
    call(
        lambda: collection.client.update_collection(collection.name, optimizers_config=config),
        what=f"setting the indexing threshold of {collection.name!r} to {threshold}",
        patience=_PATIENCE,
    )
