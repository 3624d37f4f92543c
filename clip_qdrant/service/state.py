"""Service: all that one running service is made of. Whoever starts a service makes one, and create_app takes it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request

from clip_qdrant.service.audit import AuditLog
from clip_qdrant.service.batching.embedder import BatchingEmbedder
from clip_qdrant.service.ingest.ingestion import Ingestion
from clip_qdrant.service.keys.ring import KeyRing
from clip_qdrant.service.metrics import ServiceMetrics
from clip_qdrant.service.open_collections import OpenCollections
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.stored_images import StoredImages
from clip_qdrant.service.threads import ThreadPool
from clip_qdrant.store.calls import call
from clip_qdrant.web.fetch import Fetcher

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["Service", "get_service"]

logger = logging.getLogger(__name__)

_FETCH_SECONDS = 20.0  # for an image that a request names by its address


class Service:
    """A store, an embedder, options, and the keys of callers: none are asked for without, on this computer alone.

    Requests share the embedder, which makes batches of what they want at once.
    `state` is "ready" between `warm_up` and `drain`. `close` closes none of what was passed in.
    """

    def __init__(
        self,
        client: QdrantBase,
        embedder: Embedder,
        options: ServiceOptions | None = None,
        *,
        keys: KeyRing | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self.client = client
        self.options = options or ServiceOptions()
        self.embedder = BatchingEmbedder(embedder, self.options.batching, limits=self.options.limits)
        self.keys = keys or KeyRing()
        self.audit = audit or AuditLog()
        self.threads = ThreadPool(self.options.threads, self.options.waiting, retry_after=self.options.retry_after)
        self.collections = OpenCollections(client, self.embedder, self.options)
        self.fetcher = Fetcher(allow_private=self.options.allow_private, timeout=_FETCH_SECONDS)
        self.images = StoredImages(
            self.fetcher, limits=self.options.limits, cache_bytes=self.options.thumbnail_cache_bytes
        )
        self.ingestion = Ingestion(client, embedder, self.options)
        self.metrics = ServiceMetrics()
        self.metrics.watch_queue("threads", lambda: self.threads.waiting)
        self.metrics.watch_queue("texts", lambda: self.embedder.figures.texts_waiting)
        self.metrics.watch_queue("images", lambda: self.embedder.figures.images_waiting)
        self.metrics.watch_threads(lambda: self.threads.running)
        self.metrics.watch_readiness(lambda: self.state == "ready")
        self.state: Literal["starting", "ready", "failed", "draining"] = "starting"

    def warm_up(self) -> None:
        """Runs the model once for each kind of input, so that nobody waits for it to be loaded. It blocks."""
        try:
            self.embedder.warm_up()
        except Exception:
            self.state = "failed"
            logger.exception("the model does not run")
        else:
            if self.state == "starting":
                self.state = "ready"

    def ask_store(self) -> None:
        """Asks the store for a sign of life. It blocks. Raises StoreError."""
        call(lambda: self.client.collection_exists(self.options.collection), what="asking the store", patience=0)

    def drain(self) -> None:
        """From here on `/readyz` sends callers elsewhere; those that come all the same are answered."""
        self.state = "draining"

    def close(self) -> None:
        """Waits for the calls that run, and for runs of ingestion to finish the batches in hand."""
        self.ingestion.close()
        self.threads.close()
        self.embedder.close()
        self.fetcher.close()


def get_service(request: Request) -> Service:
    """A dependency: the service that a request came to."""
    service: Service = request.app.state.service
    return service
