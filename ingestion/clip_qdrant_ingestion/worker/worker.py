"""Worker: runs of one source into one collection, with the same options each time, noted in the state file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import without_user_info
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion.run.dry_run import plan
from clip_qdrant_ingestion.run.engine import Cluster
from clip_qdrant_ingestion.run.pipeline import Dedupe, ingest
from clip_qdrant_ingestion.run.report import Plan, Progress, Report
from clip_qdrant_ingestion.sources.protocol import Source
from clip_qdrant_ingestion.state.put_away import StateMemory
from clip_qdrant_ingestion.state.state import IngestState, Scope, context_of

__all__ = ["RunOptions", "Worker"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The arguments of `ingest` that are the same for every run of a worker."""

    batch_size: int = 64
    workers: int | None = None
    readers: int | None = None
    limits: Limits = field(default_factory=Limits)
    delete: bool = False
    max_delete: float = 0.1
    owns: Callable[[str], bool] | None = None
    dedupe: Dedupe = "off"
    tags: bool = True
    retry_failed: bool = False
    patience: float = 60.0
    bulk: bool = False
    cluster: Cluster | None = None


class Worker:
    """Makes runs, one at a time. `location` is where the store is, for the state file; `noted` goes there too."""

    def __init__(
        self,
        source: Source,
        collection: ImageCollection,
        state: IngestState,
        options: RunOptions,
        *,
        location: str,
        noted: Mapping[str, Any] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._source, self._collection, self._state, self._options = source, collection, state, options
        self._scope = Scope.of(location, collection.name, source.name)
        self._context = context_of(options.limits, f"tags {options.tags}")
        self._noted = {option: without_user_info(str(value)) for option, value in (noted or {}).items()}
        self._stop = stop or threading.Event()

    def run(
        self,
        folders: Collection[str] | None = None,
        removed: Collection[str] = (),
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> Report:
        """One run of `ingest`, over the whole source or these folders."""
        options = self._options
        number = self._state.start(self._scope, self._noted)
        try:
            report = ingest(
                self._source,
                self._collection,
                batch_size=options.batch_size,
                workers=options.workers,
                readers=options.readers,
                limits=options.limits,
                folders=folders,
                removed=removed,
                delete=options.delete,
                max_delete=options.max_delete,
                owns=options.owns,
                dedupe=options.dedupe,
                tags=options.tags,
                memory=StateMemory(self._state, self._scope, self._context),
                retry_failed=options.retry_failed,
                patience=options.patience,
                bulk=options.bulk,
                cluster=options.cluster,
                progress=progress,
                stop=self._stop,
            )
        except BaseException as error:
            self._state.fail(number, without_user_info(str(error)) or type(error).__name__)
            raise
        self._state.finish(number, report)
        return report

    def plan(self) -> Plan:
        """What a run would do."""
        options = self._options
        return plan(
            self._source,
            self._collection,
            limits=options.limits,
            owns=options.owns,
            dedupe=options.dedupe,
            memory=StateMemory(self._state, self._scope, self._context),
            retry_failed=options.retry_failed,
            patience=options.patience,
        )
