"""Ingestion: what a request that starts a run sets going, a worker over a source that the service may read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ConfigError, Forbidden
from clip_qdrant.service.ingest.places import Places
from clip_qdrant.service.ingest.runs import IngestRun, IngestRuns
from clip_qdrant.url_secrets import mask_secrets

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.embedder_protocol import Embedder
    from clip_qdrant.service.bodies.ingest import IngestBody
    from clip_qdrant.service.options import ServiceOptions
    from clip_qdrant_ingestion.run.report import Progress, Report
    from clip_qdrant_ingestion.sources.protocol import Source
    from clip_qdrant_ingestion.state.state import IngestState

__all__ = ["Ingestion"]

_PATIENCE = 60.0  # seconds for which a source or a store that does not answer is tried again


class Ingestion:
    """Of one service. `close` ends its runs, which finish the batches in hand.

    A run makes batches of its own, so `embedder` is not that of the requests: in their queue it would be refused when
    that is full.
    """

    def __init__(self, client: QdrantBase, embedder: Embedder, options: ServiceOptions) -> None:
        self.runs = IngestRuns(at_once=options.ingest.at_once)
        self._client = client
        self._embedder = embedder
        self._options = options
        self._places = Places(options.ingest.places)
        self._lock = threading.Lock()
        self._state: IngestState | None = None  # opened by the first run

    def start(self, body: IngestBody, collection: str) -> IngestRun:
        """Starts a run into the collection of this name. Raises Forbidden for a source at no place of the service,
        ConfigError for options that it does not have, IngestRunning while another run is in the way.
        """
        from clip_qdrant_ingestion.options import IngestOptions
        from clip_qdrant_ingestion.worker.worker import Worker

        source = self._open_source(body)
        options = IngestOptions(
            limits=self._options.limits,
            delete=body.delete,
            max_delete=body.max_delete,
            dedupe=body.dedupe,
            tags=body.file_tags,
            name_dates=body.name_dates,
            retry_failed=body.retry_failed,
            patience=_PATIENCE,
        )
        noted = {name: value for name, value in body.model_dump(exclude_defaults=True).items() if name != "collection"}

        def work(progress: Callable[[Progress], None], stop: threading.Event) -> Report:
            images = ImageCollection(
                collection,
                self._embedder,
                self._client,
                patience=_PATIENCE,
                stopped=stop.is_set,
                shard_number=self._options.shard_number,
                replication_factor=self._options.replication_factor,
                indexes=self._options.indexes,
            )
            location = self._options.ingest.location
            worker = Worker(source, images, self._open_state(), options, location=location, noted=noted, stop=stop)
            return worker.run(progress=progress)

        return self.runs.start(collection, body.source, work)

    def close(self) -> None:
        self.runs.close()
        with self._lock:
            if self._state is not None:
                self._state.close()

    def _open_state(self) -> IngestState:
        from clip_qdrant_ingestion.state.state import IngestState

        with self._lock:
            if self._state is None:
                self._state = IngestState(self._options.ingest.state or ":memory:")
            return self._state

    def _open_source(self, body: IngestBody) -> Source:
        from clip_qdrant_ingestion.sources.confined import ConfinedSource
        from clip_qdrant_ingestion.sources.open import kind_of_source, make_source
        from clip_qdrant_ingestion.sources.options import SourceOptions
        from clip_qdrant_ingestion.sources.schemes import WEB, scheme_of

        shown = mask_secrets(body.source)
        if not self._places:
            raise Forbidden(
                f"cannot ingest {shown}: this service reads no place. Whoever runs it names those that it may read "
                "(CLIP_QDRANT_INGEST_FROM)"
            )
        if not self._places.contains(body.source):
            raise Forbidden(f"cannot ingest {shown}: it is at none of the places that this service may read")
        kind = body.kind or kind_of_source(body.source)
        if kind == "bucket" and scheme_of(body.source) in ("file", *WEB):  # fsspec follows links, and is led anywhere
            raise ConfigError(f"{shown} is no bucket: leave kind out, or give another one")
        options = SourceOptions(
            kind=kind,
            name=body.name,
            path_pattern=body.path_pattern,
            include=body.include or (),
            exclude=body.exclude or (),
            follow_symlinks=kind != "folder",  # a link may lead out of the folder; other kinds have none
            uri_column=body.uri_column,
            allow_private=self._options.allow_private,
            patience=_PATIENCE,
        )
        source = make_source(body.source, options)
        # What lies in a folder, a bucket or below a page lies below the place too; tables name what they like.
        return ConfinedSource(source, self._places.allows) if kind in ("manifest", "shards") else source
