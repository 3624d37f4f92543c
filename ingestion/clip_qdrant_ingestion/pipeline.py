"""Ingestion: brings a collection to the state of a source.

    report = ingest(FolderSource("photos"), collection)

The calling thread lists the source, asks the collection what it holds, and puts what is new or changed, in batches,
into a short queue. Each worker thread takes a batch and carries it through: read, decode, embed, write. While one
worker decodes or writes, the others embed, so all cores stay busy without further queues, and what is in memory is
`workers` batches in hand and as many waiting. The types of new metadata fields are inferred there too, from all images
that are planned at once, so that they do not depend on which worker writes first.

A batch is written whole or not at all, and ids come from uris, so a run that ends at any moment is continued by
running it again. One bad object is one quarantined row. A store that does not answer ends the run with StoreError.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from clip_qdrant.adding import same_bytes
from clip_qdrant.collection import ImageCollection
from clip_qdrant.errors import (
    ClipQdrantError,
    ConfigError,
    ImageError,
    InvalidPoint,
    MetadataError,
    SourceError,
    StoreError,
    StoreUnavailable,
)
from clip_qdrant.images import Limits, load_image
from clip_qdrant.points import batches
from clip_qdrant.records import METADATA_PREFIX, ImageRecord, with_stored_image
from clip_qdrant.runtime import cpu_count
from clip_qdrant.schema import Schema
from clip_qdrant_ingestion.metadata import Description, Sidecars
from clip_qdrant_ingestion.plan import Action, Task, decide, fitting, wanted
from clip_qdrant_ingestion.report import Progress, Quarantined, Report
from clip_qdrant_ingestion.sources import Source, SourceObject

__all__ = ["ingest"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_PLANNED_AT_ONCE = 512
_TICK = 0.1  # seconds between two progress events, and the longest a stop goes unnoticed


def ingest(
    source: Source,
    collection: ImageCollection,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Stores every image of a source that is new or changed since the last run.

    `workers` threads each carry a batch; by default one more than there are cores. `progress` is called on the
    calling thread, about ten times a second. Setting `stop`, or Ctrl-C in the main thread, finishes the batches in
    hand and returns a report with `interrupted` set; Ctrl-C a second time raises KeyboardInterrupt at once.

    Raises SourceError if the source cannot be listed at all, StoreError if the collection cannot be reached;
    running it again goes on where it ended.
    """
    workers = workers if workers is not None else cpu_count() + 1
    for name, value in (("batch_size", batch_size), ("workers", workers)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}")
    run = _Run(source, collection, batch_size, workers, limits or Limits(), progress, stop or threading.Event())
    return run.run()


class _Run:
    def __init__(
        self,
        source: Source,
        collection: ImageCollection,
        batch_size: int,
        workers: int,
        limits: Limits,
        progress: Callable[[Progress], None] | None,
        stop: threading.Event,
    ) -> None:
        self._source, self._collection, self._limits = source, collection, limits
        self._batch_size, self._progress, self._stop = batch_size, progress, stop
        self._fingerprint = collection.embedder.fingerprint
        self._queue: queue.Queue[list[Task]] = queue.Queue(maxsize=workers)
        self._threads = [threading.Thread(target=self._work, name=f"ingest-{number}") for number in range(workers)]
        self._lock = threading.Lock()  # of all that follows
        self._counts: Counter[str] = Counter()
        self._busy: defaultdict[str, float] = defaultdict(float)
        self._quarantined: list[Quarantined] = []
        self._failure: BaseException | None = None
        self._halt = threading.Event()  # no new batches: stopped, interrupted or failed
        self._listed_all = threading.Event()
        self._started = time.monotonic()
        self._last_event = 0.0

    def run(self) -> Report:
        try:
            self._until_interrupted()
        except BaseException as error:  # noqa: BLE001  it is raised again, after the batches in hand
            self._fail(error)
            self._join()
        if self._failure is not None:
            raise self._explained(self._failure)
        report = Report(
            **{name: self._counts[name] for name in ("listed", "added", "updated", "payload_updated", "skipped")},
            quarantined=tuple(sorted(self._quarantined, key=lambda row: (row.uri, row.detail))),
            seconds=time.monotonic() - self._started,
            busy=dict(self._busy),
            interrupted=self._left_over(),
        )
        self._emit(force=True)
        return report

    # The calling thread

    def _until_interrupted(self) -> None:
        try:
            for thread in self._threads:
                thread.start()
            self._feed()
            self._join()
        except KeyboardInterrupt:
            logger.warning("interrupted: finishing the batches in hand")
            self._halt.set()
            self._join()

    def _feed(self) -> None:
        try:
            for batch in batches(self._tasks(), self._batch_size):
                self._offer(batch)
        finally:
            self._listed_all.set()

    def _offer(self, batch: list[Task]) -> None:
        while not self._stopping():
            with contextlib.suppress(queue.Full):
                self._queue.put(batch, timeout=_TICK)
                return
            self._emit()

    def _stopping(self) -> bool:
        return self._halt.is_set() or self._stop.is_set()

    def _join(self) -> None:
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_TICK)
                self._emit()

    def _left_over(self) -> bool:
        """Whether an interrupt came before all was done."""
        done = sum(self._counts[name] for name in ("added", "updated", "payload_updated", "skipped", "bad images"))
        return not self._counts["listings"] or done < self._counts["listed"]

    def _tasks(self) -> Iterator[Task]:
        """The images that need work, in the order of the source."""
        for chunk in batches(self._described(), _PLANNED_AT_ONCE):
            with self._timed("plan"):
                planned = self._plan(chunk)
            self._emit()
            yield from planned

    def _described(self) -> Iterator[tuple[SourceObject, Description]]:
        sidecars = Sidecars(
            lambda item: self._source.read(item, limits=self._limits),
            lambda item, detail: self._quarantine(item.uri, "bad metadata", f"{item.name}: {detail}"),
        )
        for folder in self._source.folders():
            if folder.error is not None:
                self._quarantine(f"{self._source.name.rstrip('/')}/{folder.name}", "unreadable", str(folder.error))
            for described in sidecars.describe(folder):
                if self._stopping():
                    return
                yield described
        sidecars.close()
        self._count("listings")

    def _plan(self, chunk: Sequence[tuple[SourceObject, Description]]) -> list[Task]:
        self._count("listed", len(chunk))
        stored = self._collection.stored([item.uri for item, _ in chunk])
        tasks = []
        for item, description in chunk:
            with self._quarantining(item):
                there = stored.get(item.uri)
                record = self._collection.check(wanted(item, description, there, source=self._source.name))
                action = decide(record, there, fingerprint=self._fingerprint)
                if action is Action.SKIP:
                    self._count("skipped")
                else:
                    tasks.append(Task(item, record, there, action))
        return self._prepared(tasks)

    def _prepared(self, tasks: list[Task]) -> list[Task]:
        """Those of the tasks whose metadata fit together, after the collection was made fit to hold them."""
        described = [task for task in tasks if task.record.metadata]
        if not described:
            return tasks
        known = {
            name.removeprefix(METADATA_PREFIX): kind
            for name, kind in self._collection.fields.items()
            if name.startswith(METADATA_PREFIX)
        }
        good, bad = fitting(described, Schema(known))
        for task, error in bad:
            with self._quarantining(task.item):
                raise error
        # Another writer may have brought in other fields meanwhile; then each write finds out for itself.
        with contextlib.suppress(MetadataError):
            self._collection.prepare([task.record for task in good])
        refused = {task.item.uri for task, _ in bad}
        return [task for task in tasks if task.item.uri not in refused] if refused else tasks

    def _emit(self, *, force: bool = False) -> None:
        now = time.monotonic()
        progress = self._progress
        if progress is None or (now - self._last_event < _TICK and not force):
            return
        self._last_event = now
        with self._lock:
            counts, quarantined = Counter(self._counts), len(self._quarantined)
        progress(
            Progress(
                **{name: counts[name] for name in ("listed", "added", "updated", "payload_updated", "skipped")},
                quarantined=quarantined,
                seconds=now - self._started,
                queued=self._queue.qsize(),
                queue_size=self._queue.maxsize,
                listing=not self._listed_all.is_set(),
            )
        )

    def _explained(self, failure: BaseException) -> BaseException:
        if not isinstance(failure, StoreUnavailable):
            return failure
        stored = self._counts["added"] + self._counts["updated"]
        explained = StoreUnavailable(f"{failure}; {stored} images of this run are stored, run it again to go on")
        explained.__cause__ = failure
        return explained

    # The worker threads

    def _work(self) -> None:
        try:
            while not self._stopping():
                try:
                    batch = self._queue.get(timeout=_TICK / 2)
                except queue.Empty:
                    # In this order: what was put before the listing ended is then seen.
                    if self._listed_all.is_set() and self._queue.empty():
                        return
                    continue
                self._carry(batch)
        except BaseException as error:  # noqa: BLE001  it is raised again, in the calling thread
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._progress = None  # its own error may be what failed, and must not keep the threads from being joined
        self._halt.set()

    def _carry(self, batch: list[Task]) -> None:
        """One batch from listing to store."""
        loaded, rewrites = self._load_all(batch)
        self._embed(loaded)
        written, gone = self._rewrite(rewrites)
        self._count("payload_updated", written)
        if gone:
            self._embed(self._load_all([replace(task, stored=None, action=Action.LOAD) for task in gone])[0])

    def _load_all(self, batch: list[Task]) -> tuple[list[tuple[Task, np.ndarray]], list[Task]]:
        """Tasks with their pixels, and tasks of which only the payload is to be written."""
        rewrites: list[Task] = []
        loaded: list[tuple[Task, np.ndarray]] = []
        for task in batch:
            with self._quarantining(task.item):
                done = self._load(task)
                if isinstance(done, Task):
                    rewrites.append(done)
                else:
                    loaded.append(done)
        return loaded, rewrites

    def _embed(self, loaded: list[tuple[Task, np.ndarray]]) -> None:
        if not loaded:
            return
        with self._timed("embed"):
            vectors = self._collection.embedder.embed_pixels(np.stack([pixels for _, pixels in loaded]))
        tasks = [task for task, _ in loaded]
        positions = {task.record.uri: position for position, task in enumerate(tasks)}

        def write(records: Sequence[ImageRecord]) -> None:
            self._collection.write(records, vectors[[positions[record.uri] for record in records]])

        for task in self._write(tasks, write):
            self._count("added" if task.stored is None else "updated")

    def _rewrite(self, tasks: list[Task]) -> tuple[int, list[Task]]:
        """Writes payloads; gives how many, and those whose image somebody else has deleted since it was planned."""
        gone: list[Task] = []
        while True:
            try:
                return len(self._write(tasks, self._collection.write_payloads)), gone
            except StoreUnavailable:
                raise
            except StoreError:
                there = self._collection.stored([task.item.uri for task in tasks])
                missing = [task for task in tasks if task.item.uri not in there]
                if not missing:
                    raise
                gone += missing
                tasks = [task for task in tasks if task.item.uri in there]

    def _load(self, task: Task) -> Task | tuple[Task, np.ndarray]:
        """A task of which only the payload is to be written, or one with its pixels."""
        embedder, stored = self._collection.embedder, task.stored
        if task.action is Action.REWRITE and stored is not None:
            return replace(task, record=with_stored_image(task.record, stored))
        with self._timed("read"):
            data = self._source.read(task.item, limits=self._limits)
        with self._timed("decode"):
            sha256 = hashlib.sha256(data).hexdigest() if stored else ""
            if stored is not None and same_bytes(stored, sha256, fingerprint=self._fingerprint):
                return replace(task, record=with_stored_image(task.record, stored))
            image = load_image(data, target=embedder.image_size, limits=self._limits, name=task.item.uri)
            record = replace(task.record, image=image.info, taken_at=image.taken_at, location=image.location)
            return replace(task, record=record), embedder.preprocess(image.rgb)

    def _write(self, tasks: list[Task], write: Callable[[Sequence[ImageRecord]], None]) -> Sequence[Task]:
        """Writes tasks at once, or, where one of them is refused, each by itself; gives those that were written."""
        if not tasks:
            return []
        with self._timed("write"):
            try:
                write([task.record for task in tasks])
            except (MetadataError, InvalidPoint):
                written = []
                for task in tasks:
                    with self._quarantining(task.item):
                        write([task.record])
                        written.append(task)
                return written
        return tasks

    # Records of the run, from any thread

    def _count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self._counts[name] += number

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._busy[stage] += time.monotonic() - start

    @contextlib.contextmanager
    def _quarantining(self, item: SourceObject) -> Iterator[None]:
        """What goes wrong with one image is recorded; what goes wrong with the store or the model passes."""
        try:
            yield
        except ImageError as error:
            reason, detail = error.reason, str(error)
        except (MetadataError, InvalidPoint) as error:
            reason, detail = "bad metadata" if isinstance(error, MetadataError) else "bad vector", str(error)
        except SourceError as error:
            reason, detail = "unreadable", str(error)
        except ClipQdrantError:
            raise
        except Exception as error:  # a source of somebody else, say: one image must not end the run
            logger.debug("unexpected error at %s", item.uri, exc_info=True)
            reason, detail = "error", f"{type(error).__name__}: {error}"
        else:
            return
        self._count("bad images")
        self._quarantine(item.uri, reason, detail)

    def _quarantine(self, uri: str, reason: str, detail: str) -> None:
        logger.debug("quarantined %s: %s: %s", uri, reason, detail)
        with self._lock:
            self._quarantined.append(Quarantined(uri, reason, detail))
