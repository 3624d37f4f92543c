"""The collections of a store as they are asked for by name: each is opened once, and kept."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import CollectionNotFound, QueryError, shorten
from clip_qdrant.fields.types import FieldType
from clip_qdrant.service.keys.key import Tenant
from clip_qdrant.service.keys.tenants import TenantClient

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.embedder_protocol import Embedder
    from clip_qdrant.service.options import ServiceOptions

__all__ = ["OpenCollections"]

_NAME = re.compile(r"(?!\.{1,2}$)[^/\\?#%<>:*|\"\x00-\x1f]{1,255}")  # nothing that means more than itself in a URL


class OpenCollections:
    """Opens collections of one store with one embedder, from several threads."""

    def __init__(self, client: QdrantBase, embedder: Embedder, options: ServiceOptions) -> None:
        self._client = client
        self._embedder = embedder
        self._options = options
        self._lock = threading.Lock()
        self._open: dict[tuple[str, Tenant | None], ImageCollection] = {}

    def open(self, name: str, *, tenant: Tenant | None = None, create: bool = False) -> ImageCollection:
        """The collection of this name, or what a tenant sees of it. Raises CollectionNotFound, unless the first write
        is to `create` it, QueryError for what is no name, and what the constructor of ImageCollection raises.
        """
        found = self._open.get((name, tenant))
        if found is not None:
            return found
        _check_name(name)
        if tenant is None:
            found = self._make(name, self._client, {})
        else:
            found = self._make(name, TenantClient(self._client, tenant), {tenant.field: "keyword"})
        if not found.exists():
            if not create:
                raise CollectionNotFound(f"there is no collection {name!r}; adding an image to it makes it")
            return found
        with self._lock:
            return self._open.setdefault((name, tenant), found)

    def create(self, name: str, *, fields: Mapping[str, FieldType]) -> ImageCollection:
        """Creates a collection that is not there yet, and in any case the fields that it lacks. Raises ConfigError for
        a field that is there with another type.
        """
        images = self._make(_check_name(name), self._client, fields)
        images.writer.prepare([])
        self.forget(name)
        return images

    def _make(self, name: str, client: QdrantBase, fields: Mapping[str, FieldType]) -> ImageCollection:
        return ImageCollection(
            name,
            self._embedder,
            client,
            fields=fields,
            shard_number=self._options.shard_number,
            replication_factor=self._options.replication_factor,
            indexes=self._options.indexes,
        )

    def forget(self, name: str) -> None:
        """What was opened under this name is opened anew when it is asked for."""
        with self._lock:
            self._open = {key: images for key, images in self._open.items() if key[0] != name}


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise QueryError(f"{shorten(name, 80)!r} is no name of a collection")
    return name
