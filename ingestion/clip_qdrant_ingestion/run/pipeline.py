"""Ingestion: brings a collection to the state of a source.

    report = ingest(FolderSource("photos"), collection)

The source is listed page by page, the collection is asked what it holds, and what is new or changed goes through the
stages. A batch is written whole or not at all, and ids come from uris, so a run that ends at any moment is continued
by running it again. One bad object is one quarantined row; a store or a source that does not answer ends the run.
What is gone from the source is deleted last, when all else is stored, and only if that was asked for.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdrant_client import models

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import batches
from clip_qdrant.errors import ConfigError, StoreUnavailable
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion.duplicates.index import DuplicateIndex
from clip_qdrant_ingestion.duplicates.marks import update_marks
from clip_qdrant_ingestion.options import Dedupe, IngestOptions
from clip_qdrant_ingestion.run.bulk import bulk_load
from clip_qdrant_ingestion.run.engine import Cluster, Engine
from clip_qdrant_ingestion.run.missing import Missing, find_missing
from clip_qdrant_ingestion.run.outcomes import Outcomes
from clip_qdrant_ingestion.run.planner import Planner
from clip_qdrant_ingestion.run.report import Progress, Report
from clip_qdrant_ingestion.run.stages import Stages
from clip_qdrant_ingestion.run.threads import ThreadEngine
from clip_qdrant_ingestion.run.touched import EVERYTHING, Touched
from clip_qdrant_ingestion.sources.protocol import Source

if TYPE_CHECKING:
    from clip_qdrant_ingestion.state.put_away import PutAway

__all__ = ["ingest", "reconcile"]

logger = logging.getLogger(__name__)

_BETWEEN_EVENTS = 0.1  # seconds
_DELETED_AT_ONCE = 1000
_STORED = ("added", "updated", "renamed", "payload_updated")
_DONE = (*_STORED, "skipped", "duplicates", "still_bad")


def ingest(
    source: Source,
    collection: ImageCollection,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    readers: int | None = None,
    limits: Limits | None = None,
    folders: Collection[str] | None = None,
    removed: Collection[str] = (),
    delete: bool = False,
    max_delete: float = 0.1,
    owns: Callable[[str], bool] | None = None,
    dedupe: Dedupe = "off",
    tags: bool = True,
    memory: PutAway | None = None,
    retry_failed: bool = False,
    patience: float = 60.0,
    bulk: bool = False,
    cluster: Cluster | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Stores every image of a source that is new or changed since the last run.

    `workers` threads decode, by default as many as there are cores; `readers` read, by default as many as the source
    asks for; `batch_size` images are embedded at once. `folders` restricts the run to these folders of the source, and
    `removed` are uris that may be gone from them.

    With `delete` stored images that the source no longer has are removed, but not more than the share `max_delete`
    (0 to 1) of the collection, and only after the whole source was listed; `owns` tells which images are this run's.
    `dedupe` leaves out near-duplicates ("skip") or stores them with the uri of the first ("tag"). `tags` makes what a
    file says of itself (camera, title, keywords) metadata. What `memory` has of bad objects is passed over until they
    change, or `retry_failed` is set. A read that fails for a passing reason is tried again for `patience` seconds.
    `bulk` switches the server's indexing off while the run lasts. A `cluster` carries out the stages elsewhere.

    `progress` is called on the calling thread, about ten times a second. Setting `stop`, or Ctrl-C in the main thread,
    finishes the batches in hand and returns a report with `interrupted` set; Ctrl-C a second time raises
    KeyboardInterrupt at once.

    Raises SourceError if the source cannot be listed at all or does not answer any more, StoreError if the collection
    cannot be reached; running it again goes on where it ended.
    """
    options = IngestOptions(
        batch_size=batch_size,
        workers=workers,
        readers=readers,
        limits=limits or Limits(),
        delete=delete,
        max_delete=max_delete,
        owns=owns,
        dedupe=dedupe,
        tags=tags,
        retry_failed=retry_failed,
        patience=patience,
        bulk=bulk,
    )
    looked_at = Touched(None if folders is None else frozenset(folders), frozenset(removed))
    return reconcile(
        source, collection, options, touched=looked_at, put_away=memory, cluster=cluster, progress=progress, stop=stop
    )


def reconcile(
    source: Source,
    collection: ImageCollection,
    options: IngestOptions,
    *,
    touched: Touched = EVERYTHING,
    put_away: PutAway | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """One run, as `ingest` describes it."""
    if options.readers is None and source.reads_at_once < 1:
        raise ConfigError(f"readers must be at least 1, not {source.reads_at_once}")
    stop = stop or threading.Event()
    started = time.monotonic()
    outcomes = Outcomes(put_away, compares=options.dedupe != "off" or _has_marks(collection))
    duplicates = None if options.dedupe == "off" else _load_index(collection)
    planner = Planner(source, collection, outcomes, options=options, put_away=put_away, stopped=stop.is_set)
    events = _ProgressEvents(progress, outcomes, planner)

    def new_engine() -> Engine:
        if cluster is not None:
            return cluster.engine(source, outcomes.tell, options=options, duplicates=duplicates, stop=stop, tick=tick)
        stages = Stages(source, collection, outcomes.tell, options=options, stop=stop, duplicates=duplicates)
        return ThreadEngine(stages, options=options, reads_at_once=source.reads_at_once, stop=stop, tick=tick)

    def tick() -> None:
        events.tick(engine)

    engine = new_engine()
    rest = _FollowUp(
        source.name, collection, options, touched, planner, outcomes, put_away, duplicates, stop, new_engine, tick
    )
    try:
        with bulk_load(collection) if options.bulk else contextlib.nullcontext():
            engine.run(planner.tasks(touched.folders))
            found = rest.run()
    except StoreUnavailable as error:
        stored = sum(outcomes.counts()[name] for name in _STORED)
        raise StoreUnavailable(f"{error}; {stored} images of this run are stored, run it again to go on") from error
    finally:
        outcomes.flush()
    rest.forget()
    counts = outcomes.counts()
    report = Report(
        **{name: counts[name] for name in _DONE},
        listed=len(planner.seen),
        gone=found.count if found is not None else None,
        refused=found.refused if found is not None else None,
        deleted=rest.deleted,
        quarantined=tuple(sorted(outcomes.quarantined, key=lambda row: (row.uri, row.detail))),
        seconds=time.monotonic() - started,
        stages=engine.stage_times(),
        interrupted=stop.is_set() and not (rest.done and planner.listed and counts["objects"] >= len(planner.seen)),
    )
    events.tell(engine, deleted=rest.deleted)
    return report


@dataclass(slots=True)
class _FollowUp:
    """What is left to do when all that was listed is stored. A stop leaves it to the next run.

    `deleted` images are gone by now; `done` says that nothing was left.
    """

    source_name: str
    collection: ImageCollection
    options: IngestOptions
    touched: Touched
    planner: Planner
    outcomes: Outcomes
    put_away: PutAway | None
    duplicates: DuplicateIndex | None
    stop: threading.Event
    new_engine: Callable[[], Engine]
    tick: Callable[[], None]
    deleted: int = 0
    done: bool = False

    def run(self) -> Missing | None:
        """Deletes what is gone, and stores what was left out because of it; gives what is gone if it can be told."""
        found = None
        try:
            if self.options.delete and not self.stop.is_set():
                found = self._find_missing()
            gone = frozenset(found.uris if found is not None else ())
            lost = self._find_lost()
            others = gone.union(lost, self.outcomes.changed)
            if others and not self.stop.is_set():
                self._reconsider(others, nowhere=gone | lost)
            if not self.stop.is_set():  # or an image that was left out may be nowhere
                self._delete(gone)
            # What came after the last image was stored interrupts nothing, unless there was more to do.
            self.done = not self.stop.is_set() or not (self.options.delete or others)
        except KeyboardInterrupt:
            if self.stop.is_set():
                raise
            logger.warning("interrupted: what is gone from the source stays until the next run")
            self.stop.set()
        return found

    def _find_missing(self) -> Missing | None:
        """What is no longer in the source, None where that cannot be told."""
        if not self.planner.complete:
            logger.warning("nothing is deleted, because a part of the source could not be listed")
            return None
        return find_missing(
            self.collection,
            self.source_name,
            self.planner.seen,
            max_delete=self.options.max_delete,
            owns=self.options.owns,
            among=self.touched.removed if self.touched.folders is not None else None,
            tick=self.tick,
        )

    def _find_lost(self) -> frozenset[str]:
        """Images to which others were compared, and which then could not be stored."""
        if self.duplicates is None or not self.outcomes.quarantined:
            return frozenset()
        uris = [row.uri for row in self.outcomes.quarantined]
        return frozenset(uris).difference(self.collection.writer.read_payloads(uris))

    def _reconsider(self, others: frozenset[str], *, nowhere: frozenset[str]) -> None:
        """Has images that were left out, or tagged, because of `others` be compared again."""
        if self.duplicates is not None:
            for uri in nowhere:
                self.duplicates.forget(uri)
        if again := self.outcomes.reconsider(others):
            self.new_engine().run(self.planner.tasks(self.touched.folders, only=frozenset(again)))
        update_marks(self.collection, others, missing=nowhere, index=self.duplicates)

    def _delete(self, gone: frozenset[str]) -> None:
        for uris in batches(sorted(gone), _DELETED_AT_ONCE):
            self.tick()
            if self.stop.is_set():
                return
            self.deleted += self.collection.delete(uris=uris)
            if self.put_away is not None:
                self.put_away.settle(uris)
                self.put_away.release(uris)

    def forget(self) -> None:
        """Bad objects that are gone leave the quarantine."""
        if self.put_away is None or not self.planner.complete or self.stop.is_set():
            return
        if self.touched.folders is not None:
            self.put_away.settle([uri for uri in self.touched.removed if uri not in self.planner.seen])
        elif self.options.owns is None:  # this run answers for all of the source
            self.put_away.settle_unmet()


class _ProgressEvents:
    """Tells whoever wants to know how far a run is."""

    def __init__(self, progress: Callable[[Progress], None] | None, outcomes: Outcomes, planner: Planner) -> None:
        self._progress, self._outcomes, self._planner = progress, outcomes, planner
        self._last = 0.0

    def tick(self, engine: Engine) -> None:
        """An event, if the last is long enough ago."""
        if time.monotonic() - self._last >= _BETWEEN_EVENTS:
            self.tell(engine)

    def tell(self, engine: Engine, *, deleted: int = 0) -> None:
        if self._progress is None:
            return
        self._last = time.monotonic()
        counts = self._outcomes.counts()
        self._progress(
            Progress(
                **{name: counts[name] for name in (*_DONE, "quarantined")},
                listed=len(self._planner.seen),
                deleted=deleted,
                seconds=engine.seconds,
                queues=engine.queues(),
                stages={name: time.share for name, time in engine.stage_times().items()},
                listing=not self._planner.listed,
            )
        )


def _has_marks(collection: ImageCollection) -> bool:
    untagged = models.IsEmptyCondition(is_empty=models.PayloadField(key="duplicate_of"))
    return collection.exists() and collection.count(models.Filter(must_not=[untagged])) > 0


def _load_index(collection: ImageCollection) -> DuplicateIndex:
    """The hashes of the stored images, without those that are tagged as duplicates."""
    index = DuplicateIndex()
    index.load(
        (payload["uri"], payload["image"]["phash"])
        for payload in collection.writer.scan(parts=["uri", "image.phash", "duplicate_of"])
        if (payload.get("image") or {}).get("phash") and "duplicate_of" not in payload
    )
    return index
