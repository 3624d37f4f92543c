"""The collections of a store as they are asked for by name: each is opened once, and kept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import CollectionNotFound

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["OpenCollections"]


class OpenCollections:
    """Opens collections of one store with one embedder, from several threads."""

    def __init__(self, client: QdrantBase, embedder: Embedder) -> None:
        self._client = client
        self._embedder = embedder
        self._lock = threading.Lock()
        self._open: dict[str, ImageCollection] = {}

    def open(self, name: str, *, create: bool = False) -> ImageCollection:
        """The collection of this name. Raises CollectionNotFound, unless the first write is to `create` it,
        and what the constructor of ImageCollection raises.
        """
        found = self._open.get(name)
        if found is None:
            found = ImageCollection(name, self._embedder, self._client)
            if not create and not found.exists():
                raise CollectionNotFound(f"there is no collection {name!r} yet: adding an image to it makes it")
            with self._lock:
                found = self._open.setdefault(name, found)
        return found

    def forget(self, name: str) -> None:
        """What was opened under this name is opened anew when it is asked for."""
        with self._lock:
            self._open.pop(name, None)
