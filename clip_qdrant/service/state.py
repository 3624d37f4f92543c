"""Service: all that one running service is made of. Whoever starts a service makes one, and create_app takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from clip_qdrant.service.open_collections import OpenCollections
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.threads import ThreadPool

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["Service", "get_service"]


class Service:
    """A store, an embedder and the options of a service. `close` closes none of what was passed in."""

    def __init__(self, client: QdrantBase, embedder: Embedder, options: ServiceOptions | None = None) -> None:
        self.client = client
        self.embedder = embedder
        self.options = options or ServiceOptions()
        self.threads = ThreadPool(self.options.threads, self.options.waiting, retry_after=self.options.retry_after)
        self.collections = OpenCollections(client, embedder)

    def close(self) -> None:
        """Waits for the calls that run."""
        self.threads.close()


def get_service(request: Request) -> Service:
    """A dependency: the service that a request came to."""
    service: Service = request.app.state.service
    return service
