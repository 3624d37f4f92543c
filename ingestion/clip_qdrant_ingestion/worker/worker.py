"""Worker: runs of one source into one collection, with the same options each time, noted in the state file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.run.dry_run import preview
from clip_qdrant_ingestion.run.engine import Cluster
from clip_qdrant_ingestion.run.extent import EVERYTHING, Extent
from clip_qdrant_ingestion.run.reconciler import Reconciler
from clip_qdrant_ingestion.run.report import Plan, Progress, Report
from clip_qdrant_ingestion.sources.protocol import Source
from clip_qdrant_ingestion.state.reader import Scope
from clip_qdrant_ingestion.state.state import IngestState, context_of

__all__ = ["Worker"]


class Worker:
    """Makes runs, one at a time. `location` is where the store is, for the state file; `noted` goes there too."""

    def __init__(
        self,
        source: Source,
        collection: ImageCollection,
        state: IngestState,
        options: IngestOptions,
        *,
        location: str,
        noted: Mapping[str, Any] | None = None,
        cluster: Cluster | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._source, self._collection, self._state, self._options = source, collection, state, options
        self._scope = Scope.of(location, collection.name, source.name)
        self._context = context_of(options.limits, f"tags {options.tags}")
        self._noted = {option: mask_secrets(str(value)) for option, value in (noted or {}).items()}
        self._cluster = cluster
        self._stop = stop or threading.Event()

    def run(self, extent: Extent = EVERYTHING, *, progress: Callable[[Progress], None] | None = None) -> Report:
        """One run, over the whole source or an extent of it."""
        number = self._state.start(self._scope, self._noted)
        try:
            run = Reconciler(
                self._source,
                self._collection,
                self._options,
                extent=extent,
                put_away=self._state.put_away(self._scope, self._context),
                cluster=self._cluster,
                progress=progress,
                stop=self._stop,
            )
            report = run.run()
        except BaseException as error:
            self._state.fail(number, mask_secrets(str(error)) or type(error).__name__)
            raise
        self._state.finish(number, report)
        return report

    def plan(self) -> Plan:
        """What a run would do."""
        put_away = self._state.put_away(self._scope, self._context)
        return preview(self._source, self._collection, self._options, put_away=put_away)
