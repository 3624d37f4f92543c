"""Reconciler: one run of ingestion, from the listing of the source to the deletion of what is gone from it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from qdrant_client import models

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import batches
from clip_qdrant.errors import ConfigError, StoreFull, StoreUnavailable
from clip_qdrant_ingestion.duplicates.index import DuplicateIndex
from clip_qdrant_ingestion.duplicates.marks import update_marks
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.packed_texts import sort_texts
from clip_qdrant_ingestion.run.bulk import bulk_load, put_indexing_back
from clip_qdrant_ingestion.run.engine import Cluster, Engine
from clip_qdrant_ingestion.run.extent import EVERYTHING, Extent
from clip_qdrant_ingestion.run.missing import Missing, find_missing
from clip_qdrant_ingestion.run.outcomes import Outcomes
from clip_qdrant_ingestion.run.planner import Planner
from clip_qdrant_ingestion.run.report import Progress, Report
from clip_qdrant_ingestion.run.stages import Stages
from clip_qdrant_ingestion.run.threads import ThreadEngine
from clip_qdrant_ingestion.sources.protocol import Source

if TYPE_CHECKING:
    from clip_qdrant_ingestion.state.put_away import PutAway

__all__ = ["Reconciler"]

logger = logging.getLogger(__name__)

_BETWEEN_EVENTS = 0.1  # seconds
_DELETED_AT_ONCE = 1000
_STORED = ("added", "updated", "renamed", "copied", "payload_updated")
_DONE = (*_STORED, "skipped", "duplicates", "still_bad")


class Reconciler:
    """One run, as `ingest` describes it; `run` may be called once.

    `put_away` is what earlier runs put away, and gets what this one does.
    """

    def __init__(
        self,
        source: Source,
        collection: ImageCollection,
        options: IngestOptions,
        *,
        extent: Extent = EVERYTHING,
        put_away: PutAway | None = None,
        cluster: Cluster | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        if options.readers is None and source.reads_at_once < 1:
            raise ConfigError(f"readers must be at least 1, not {source.reads_at_once}")
        self._source, self._collection, self._options, self._extent = source, collection, options, extent
        self._put_away, self._cluster, self._progress = put_away, cluster, progress
        self._stop = stop or threading.Event()
        self._started = time.monotonic()
        compares = options.dedupe != "off"
        self._outcomes = Outcomes(put_away, compares=compares or _has_marks(collection))
        self._duplicates = _load_index(collection) if compares else None
        self._planner = Planner(
            source,
            collection,
            self._outcomes,
            options=options,
            put_away=put_away,
            duplicates=self._duplicates,
            stopped=self._stop.is_set,
        )
        self._deleted = 0
        self._last_event = 0.0
        self._engine = self._make_engine()

    def run(self) -> Report:
        """Stores what is new or changed, then does what can be done only after that."""
        found, nothing_left = None, False
        try:
            if not self._options.bulk:
                put_indexing_back(self._collection)
            self._collection.writer.complete()
            with bulk_load(self._collection) if self._options.bulk else contextlib.nullcontext():
                self._engine.run(self._planner.tasks(self._extent.folders))
                found, nothing_left = self._follow_up()
        except (StoreUnavailable, StoreFull) as error:
            stored = sum(self._outcomes.counts()[name] for name in _STORED)
            raise type(error)(f"{error}; {stored} images of this run are stored, run it again to go on") from error
        finally:
            self._outcomes.flush()
        self._forget_missing()
        report = self._report(found, nothing_left=nothing_left)
        self._send_progress()
        return report

    def _make_engine(self) -> Engine:
        source, tell, options, stop = self._source, self._outcomes.tell, self._options, self._stop
        if self._cluster is not None:
            return self._cluster.engine(
                source, tell, options=options, duplicates=self._duplicates, stop=stop, tick=self._tick
            )
        stages = Stages(source, self._collection, tell, options=options, stop=stop, duplicates=self._duplicates)
        return ThreadEngine(stages, options=options, reads_at_once=source.reads_at_once, stop=stop, tick=self._tick)

    def _report(self, found: Missing | None, *, nothing_left: bool) -> Report:
        counts, listed = self._outcomes.counts(), len(self._planner.seen)
        done = nothing_left and self._planner.listed and counts["objects"] >= listed
        return Report(
            **{name: counts[name] for name in _DONE},
            listed=listed,
            gone=found.count if found is not None else None,
            refused=found.refused if found is not None and self._options.delete else None,
            deleted=self._deleted,
            quarantined=tuple(sorted(self._outcomes.quarantined, key=lambda row: (row.uri, row.detail))),
            fields_left_out=self._outcomes.fields_left_out(),
            seconds=time.monotonic() - self._started,
            stages=self._engine.stage_times(),
            interrupted=self._stop.is_set() and not done,
            passed_over=dict(self._planner.passed_over),
        )

    # When all that was listed is stored. A stop leaves it to the next run.

    def _follow_up(self) -> tuple[Missing | None, bool]:
        """Deletes what is gone, and stores what was left out because of it.

        Gives what is gone, None where that cannot be told, and whether nothing is left to do.
        """
        found, nothing_left = None, False
        try:
            if not self._stop.is_set():
                found = self._find_missing()
            gone = frozenset(found.uris if found is not None and self._options.delete else ())
            lost = self._find_lost()
            others = gone.union(lost, self._outcomes.changed)
            if others and not self._stop.is_set():
                self._reconsider(others, nowhere=gone | lost)
            if not self._stop.is_set():  # or an image that was left out may be nowhere
                self._delete(gone)
            # What came after the last image was stored interrupts nothing, unless there was more to do.
            nothing_left = not self._stop.is_set() or not (self._options.delete or others)
        except KeyboardInterrupt:
            if self._stop.is_set():
                raise
            logger.warning("interrupted: what is gone from the source stays until the next run")
            self._stop.set()
        return found, nothing_left

    def _find_missing(self) -> Missing | None:
        """What is no longer where it was, None where that cannot be told."""
        if not self._planner.complete:
            if self._options.delete and self._planner.listed:
                logger.warning("nothing is deleted, because a part of the source could not be listed")
            return None
        if self._extent.folders is not None and not self._options.delete:
            return None  # only those that are said to be removed would be looked for
        return find_missing(
            self._collection,
            self._source,
            self._planner.seen,
            options=self._options,
            listed_any=self._planner.listed_any,
            among=self._extent.removed if self._extent.folders is not None else None,
            moved=self._outcomes.moved,
            tick=self._tick,
        )

    def _find_lost(self) -> frozenset[str]:
        """Images to which others were compared, and which then could not be stored."""
        if self._duplicates is None or not self._outcomes.quarantined:
            return frozenset()
        uris = [row.uri for row in self._outcomes.quarantined]
        return frozenset(uris).difference(self._collection.writer.read_payloads(uris))

    def _reconsider(self, others: frozenset[str], *, nowhere: frozenset[str]) -> None:
        """Has images that were left out, or marked, because of `others` be compared again."""
        if self._duplicates is not None:
            for uri in nowhere:
                self._duplicates.forget(uri)
        if again := self._outcomes.reconsider(others):
            self._make_engine().run(self._planner.tasks(self._extent.folders, only=frozenset(again)))
        update_marks(self._collection, others, missing=nowhere, index=self._duplicates)

    def _delete(self, gone: frozenset[str]) -> None:
        for uris in batches(sorted(gone), _DELETED_AT_ONCE):
            self._tick()
            if self._stop.is_set():
                return
            self._deleted += self._collection.delete(uris=uris)
            if self._put_away is not None:
                self._put_away.settle(uris)
                self._put_away.release(uris)

    def _forget_missing(self) -> None:
        """Bad objects that are gone leave the quarantine."""
        if self._put_away is None or not self._planner.complete or self._stop.is_set():
            return
        if self._extent.folders is not None:
            self._put_away.settle([uri for uri in self._extent.removed if uri not in self._planner.seen])
        elif self._options.owns is None:  # this run answers for all of the source
            self._put_away.settle_unmet()

    # Progress

    def _tick(self) -> None:
        """Tells of the progress, if the last time is long enough ago."""
        if time.monotonic() - self._last_event >= _BETWEEN_EVENTS:
            self._send_progress()

    def _send_progress(self) -> None:
        if self._progress is None:
            return
        self._last_event = time.monotonic()
        counts = self._outcomes.counts()
        self._progress(
            Progress(
                **{name: counts[name] for name in (*_DONE, "quarantined")},
                listed=len(self._planner.seen),
                deleted=self._deleted,
                seconds=self._engine.seconds,
                queues=self._engine.queues(),
                stages={name: time.share for name, time in self._engine.stage_times().items()},
                listing=not self._planner.listed,
            )
        )


def _has_marks(collection: ImageCollection) -> bool:
    unmarked = models.IsEmptyCondition(is_empty=models.PayloadField(key="duplicate_of"))
    return collection.exists() and collection.count(models.Filter(must_not=[unmarked])) > 0


def _load_index(collection: ImageCollection) -> DuplicateIndex:
    """The hashes of the stored images in the order they came in, without those that are marked as duplicates."""
    payloads = collection.writer.scan(parts=["uri", "image.phash", "duplicate_of", "ingested_at"])
    rows = sort_texts(
        f"{payload.get('ingested_at', '')}\t{payload['uri']}\t{payload['image']['phash']}"
        for payload in payloads
        if (payload.get("image") or {}).get("phash") and "duplicate_of" not in payload
    )
    index = DuplicateIndex()
    index.load((row[row.index("\t") + 1 : row.rindex("\t")], row[row.rindex("\t") + 1 :]) for row in rows)
    return index
