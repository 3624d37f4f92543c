"""The collections of a store, opened by name when a tool asks for them, and kept."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.strict_mode import StrictMode
from clip_qdrant.embedder_protocol import describe_embedder
from clip_qdrant.errors import CollectionNotFound, StoreError
from clip_qdrant.integrations.mcp.adopted import AdoptedCollection, choose_vector
from clip_qdrant.integrations.mcp.own import OwnCollection
from clip_qdrant.store.calls import call

if TYPE_CHECKING:
    from qdrant_client import models
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.embedder_protocol import Embedder
    from clip_qdrant.integrations.mcp.lookup import ReadableCollection

__all__ = ["CollectionCatalog"]

_OURS = "clip_qdrant"  # in the metadata of a collection that this package made
_OF_A_PATH = frozenset("/\\?#")  # no name has them, and the client puts names into paths of a server as they are


class CollectionCatalog:
    """The collections that tools may read: those named by `only`, or all of the store.

    `default` is the one that is meant where none is named; where it is not there, the only one there is.
    May be used by several threads.
    """

    def __init__(
        self, client: QdrantBase, embedder: Embedder, *, default: str = "images", only: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._embedder = embedder
        self._default = default
        self._only = tuple(only)
        self._own: dict[str, ImageCollection] = {}
        self._lock = threading.Lock()

    def open(self, name: str | None) -> ReadableCollection:
        """The collection of this name. Raises CollectionNotFound, FingerprintMismatch, StoreError."""
        name = self._choose() if name is None else name
        if (self._only and name not in self._only) or not _OF_A_PATH.isdisjoint(name):
            raise self._explain_absence(name)
        try:
            info = self._look(name)
        except CollectionNotFound:
            raise self._explain_absence(name) from None
        if not _is_ours(info):
            return AdoptedCollection(name, self._client, self._embedder, info)
        with self._lock:
            images = self._own.get(name)
            if images is None:
                images = self._own[name] = ImageCollection(name, self._embedder, self._client)
                return OwnCollection(images)
        images.exists()  # another program may have made it anew meanwhile
        return OwnCollection(images)

    def _choose(self) -> str:
        with contextlib.suppress(StoreError):  # a key for one collection may not list them
            there = self.names()
            if self._default not in there and len(there) == 1:
                return there[0]
        return self._default

    def names(self) -> list[str]:
        """The collections that are there and may be read."""
        listed = call(self._client.get_collections, what="listing the collections").collections
        return sorted(one.name for one in listed if not self._only or one.name in self._only)

    def describe_all(self) -> list[dict[str, Any]]:
        """Name, number of images, maker and, where it cannot be searched by this model, the reason, of each."""
        return [self._describe(name) for name in self.names()]

    def _describe(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = {"name": name}
        try:
            info = self._look(name)
            exact = StrictMode.read(info.config).exact
            counted = call(lambda: self._client.count(name, exact=exact), what=f"counting in collection {name!r}")
            told["images"] = counted.count
        except StoreError as error:
            return {**told, "unusable": str(error)}
        profile = (info.config.metadata or {}).get(_OURS)
        told["made_by"] = "clip_qdrant" if isinstance(profile, Mapping) else "another program"
        told["default"] = name == self._default
        if not isinstance(profile, Mapping):
            try:
                choose_vector(name, info, self._embedder.dim)
            except StoreError as error:
                told["unusable"] = str(error)
        elif profile.get("fingerprint") != (own := self._embedder).fingerprint:
            theirs = describe_embedder(profile.get("fingerprint"), profile.get("model"), profile.get("dim"))
            mine = describe_embedder(own.fingerprint, getattr(own, "name", None), own.dim)
            told["unusable"] = (
                f"it was made by embedder {theirs}, and this server has {mine}; start one with the model that made it "
                "(--model)"
            )
        return told

    def _look(self, name: str) -> models.CollectionInfo:
        return call(lambda: self._client.get_collection(name), what=f"opening collection {name!r}")

    def _explain_absence(self, name: str) -> CollectionNotFound:
        there = ""
        with contextlib.suppress(StoreError):
            names = ", ".join(self.names())
            there = f"; there are: {names}" if names else ", nor any other, in this store"
        return CollectionNotFound(f"there is no collection {name!r}{there}")


def _is_ours(info: models.CollectionInfo) -> bool:
    return isinstance((info.config.metadata or {}).get(_OURS), Mapping)
