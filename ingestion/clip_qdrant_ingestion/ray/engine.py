"""One run on a Ray cluster, as its driver sees it: an engine that hands out chunks and takes what comes back."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace

import ray

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ClipQdrantError, first_line
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.ray.board import Chunk, Link, Question, resources
from clip_qdrant_ingestion.ray.chunk_worker import Job
from clip_qdrant_ingestion.ray.dataset import Embedders, iter_chunks, make_dataset
from clip_qdrant_ingestion.run.decisions import Task
from clip_qdrant_ingestion.run.report import StageTime, stage_times
from clip_qdrant_ingestion.run.stages import DuplicateFinder, ObjectOutcome
from clip_qdrant_ingestion.sources.protocol import Source

__all__ = ["RayEngine"]

logger = logging.getLogger(__name__)

_TICK = 0.1  # seconds: the longest a stop or a failure goes unnoticed
_WRITERS = 2  # at least: while one waits for the server's answer, the other prepares its batch
_BYTES = 256 * 1024 * 1024  # of tasks on their way: those from an archive hold their image
_ROUNDS = 3  # in a row in which nothing comes back


class RayEngine:
    """Runs tasks through the stages of a Ray dataset (`ray.dataset`), in rounds.

    A round ends when all has come back, or Ray has given up: then what is left goes again. Setting `stop` finishes the
    batches in hand, those being embedded or written, and leaves the rest.
    """

    def __init__(
        self,
        source: Source,
        open_collection: Callable[[], ImageCollection],
        tell: Callable[[ObjectOutcome], None],
        *,
        options: IngestOptions,
        duplicates: DuplicateFinder | None,
        stop: threading.Event,
        tick: Callable[[], None],
        embedders: Embedders,
    ) -> None:
        self._source, self._open_collection, self._tell = source, open_collection, tell
        self._options = replace(options, owns=None)  # which need not be one that can be sent, and is asked here alone
        self._chunk_size = options.batch_size
        self._duplicates, self._stop, self._tick = duplicates, stop, tick
        self._embedders, self._writers = embedders, max(_WRITERS, embedders.count)
        loaders = max(1, int(resources().get("CPU", 1)))
        self._processes = {
            "plan": 1,
            "read": loaders * max(1, source.reads_at_once),
            "decode": loaders,
            "embed": embedders.count,
            "write": self._writers,
        }
        # One chunk in work and one that waits, for each of them.
        self._at_once = 2 * (loaders + embedders.count + self._writers)
        self._lock = threading.Lock()
        self._busy: defaultdict[str, float] = defaultdict(float)
        self._left: dict[str, Task] = {}  # by uri: planned, and not told of
        self._loose: list[Task] = []  # of these, too few yet for a chunk
        self._planned = False  # there will be no more
        self._told = 0
        self._came = threading.Event()  # a chunk, since it was last cleared
        self._failure: BaseException | None = None
        self._started = time.monotonic()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long the run takes, or took."""
        return (self._ended or time.monotonic()) - self._started

    def stage_times(self) -> dict[str, StageTime]:
        """The work of each stage so far, in all processes of the cluster together."""
        with self._lock:
            busy = dict(self._busy)
        return stage_times(busy, self._processes, self.seconds)

    def queues(self) -> dict[str, tuple[int, int]]:
        """None of its own: what waits, waits in Ray."""
        return {}

    def run(self, tasks: Iterator[list[Task]]) -> None:
        """Carries all tasks through, or as many as there is time for until it is stopped.

        Raises what a stage raised; ClipQdrantError if objects do not come back however often they are handed out;
        KeyboardInterrupt only if it comes a second time.
        """
        idle = 0
        try:
            while idle < _ROUNDS:
                before = self._told
                while not (self._left or self._planned or self._stop.is_set()):  # there may be nothing to do
                    self._plan(tasks)
                    self._tick()
                if self._left and not self._stop.is_set():
                    with _quiet():
                        self._round(tasks)
                if self._stop.is_set() or (self._planned and not self._left):
                    return
                idle = idle + 1 if self._told == before else 0
                logger.warning("%d images did not come back from the Ray cluster; they go again", len(self._left))
        finally:
            self._ended = time.monotonic()
        raise ClipQdrantError(
            f"{len(self._left)} images did not come back from the Ray cluster, {_ROUNDS} times in a row, "
            f"{next(iter(self._left), None)!r} among them: see the logs of its workers, and run it again"
        )

    # The calling thread

    def _round(self, tasks: Iterator[list[Task]]) -> None:
        link = Link()
        job = Job(
            uuid.uuid4().hex,
            link.board,
            self._source,
            self._open_collection,
            self._options,
            self._duplicates is not None,
        )
        self._loose = list(self._left.values())
        # What has killed its process each time shall not hold back the others of its chunk.
        self._chunk_size = 1 if self._planned else self._options.batch_size
        rows = make_dataset(job, embedders=self._embedders, writers=self._writers)
        collector = threading.Thread(target=self._collect, args=(rows, link), name="ingest-collect", daemon=True)
        others = [threading.Thread(target=link.answer, args=(self._reply,), name="ingest-answer", daemon=True)]
        started = [collector, *(others if self._duplicates is not None else [])]
        for thread in started:
            thread.start()
        try:
            try:
                self._drive(tasks, link, collector)
            except KeyboardInterrupt:
                logger.warning("interrupted: finishing the batches in hand")
                self._stop.set()
                self._drive(tasks, link, collector)
        finally:
            link.close()
            for thread in started:
                thread.join()
            link.drop()

    def _drive(self, tasks: Iterator[list[Task]], link: Link, collector: threading.Thread) -> None:
        """Plans as long as there is room, and keeps the board up to date, until all has come back."""
        while collector.is_alive():
            self._came.clear()
            stopped = self._stop.is_set()
            plans = self._put(link) and not self._planned and not stopped
            if plans:
                self._plan(tasks)
            link.exchange(ended=self._planned and not self._loose, stopped=stopped)
            self._tick()
            if not plans:
                self._came.wait(_TICK)
        if self._failure is not None:
            raise self._failure
        link.exchange(ended=True, stopped=True)  # or raises what has ended the round

    def _plan(self, tasks: Iterator[list[Task]]) -> None:
        start = time.monotonic()
        page = next(tasks, None)
        with self._lock:
            self._busy["plan"] += time.monotonic() - start
            self._left.update((task.item.uri, task) for task in page or ())
        self._loose += page or ()
        self._planned = page is None

    def _put(self, link: Link) -> bool:
        """Hands out chunks while there is room, only full ones if more tasks may come. Gives whether there still is."""
        while link.chunks < self._at_once and link.size < _BYTES:
            if len(self._loose) < (1 if self._planned else self._chunk_size):
                return True
            link.put(self._loose[: self._chunk_size])
            del self._loose[: self._chunk_size]
        return False

    # Other threads

    def _collect(self, rows: ray.data.Dataset, link: Link) -> None:
        try:
            for chunk in iter_chunks(rows):
                try:
                    self._take(chunk)
                except BaseException as error:  # noqa: BLE001  it is raised again, in the calling thread
                    self._failure = error
                    return
                link.note_return(chunk.number)
                self._came.set()
        except Exception as error:  # noqa: BLE001  whatever Ray raises: what is left goes again
            logger.info("the Ray dataset ended early: %s", first_line(error))

    def _take(self, chunk: Chunk) -> None:
        with self._lock:
            for stage, seconds in chunk.seconds.items():
                self._busy[stage] += seconds
            # Each is told once, also of a chunk that was done twice.
            new = [one for one in chunk.outcomes if self._left.pop(one.uri, None) is not None]
            self._told += len(new)
        for outcome in new:
            self._tell(outcome)

    def _reply(self, question: Question) -> str | None:
        assert self._duplicates is not None
        return self._duplicates.find_first(*question)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what Ray Data says of its progress, and of errors that are raised here, to its log file."""
    handlers = [one for one in logging.getLogger("ray.data").handlers if isinstance(one, logging.StreamHandler)]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)
