"""The calls of a client about collections as a whole."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from clip_qdrant.errors import CollectionNotFound
from clip_qdrant.service.client.calls import Calls

__all__ = ["CollectionCalls"]


class CollectionCalls(Calls):
    """What collections there are, and what is in this one."""

    def list_collections(self) -> list[str]:
        """Those of the store that the key may use, by name."""
        names: list[str] = self._transport.send("GET", "/v1/collections")["collections"]
        return names

    def describe(self) -> dict[str, Any]:
        """Its name, number of images, fields, dimensions and fingerprint. Raises CollectionNotFound."""
        told: dict[str, Any] = self._transport.send("GET", self._find_path())
        return told

    def exists(self) -> bool:
        """As `ImageCollection.exists`."""
        try:
            self.describe()
        except CollectionNotFound:
            return False
        return True

    def drop(self) -> None:
        """As `ImageCollection.drop`. It takes a key with the scope admin."""
        if self.exists():
            self._transport.send("DELETE", self._find_path())

    def _find_path(self) -> str:
        name = self.name or self._transport.send("GET", "/v1/collections")["default"]
        return f"/v1/collections/{quote(name, safe='')}"
