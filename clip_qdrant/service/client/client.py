"""Client: a served collection in Python. What `ImageCollection` has is here by the same names, and gives the same.

with Client("http://localhost:8080", collection="photos") as photos:
    photos.search("a cat asleep", where="year >= 2022")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clip_qdrant.service.client.collections import CollectionCalls
from clip_qdrant.service.client.counts import CountCalls
from clip_qdrant.service.client.edits import EditCalls
from clip_qdrant.service.client.runs import RunCalls
from clip_qdrant.service.client.searches import SearchCalls
from clip_qdrant.service.client.transport import Transport

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

__all__ = ["Client"]


class Client(SearchCalls, CountCalls, EditCalls, CollectionCalls, RunCalls):
    """A collection behind `clip-qdrant serve`; without a name the one that the service serves.

    `timeout` is how many seconds an answer may take, `patience` for how many a request is made again while the service
    is busy or not there yet, after the pauses that it asks for. `http` is an httpx.Client to use, with proxies or
    certificates of its own. Images that a query names are files of this computer, and are sent.

    A collection that is not there is CollectionNotFound here, where ImageCollection gives no hits.
    Every method may raise what the same method of ImageCollection does, and ServiceError: Unauthorized, Forbidden,
    Overloaded, … May be used from several threads; async code has the methods as `asearch` and so on.
    """

    def __init__(
        self,
        url: str,
        *,
        collection: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        patience: float = 30.0,
        http: httpx.Client | None = None,
    ) -> None:
        transport = Transport(url, api_key=api_key, timeout=timeout, patience=patience, http=http)
        super().__init__(transport, collection)

    def __repr__(self) -> str:
        return f"Client({self._transport.shown_url!r}, collection={self.name!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()
