"""What a worker process of a Ray cluster has open for a run, and does with one chunk."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any

import ray
from qdrant_client import QdrantClient
from qdrant_client.local.qdrant_local import QdrantLocal

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ClipQdrantError, ConfigError, StoreLocked
from clip_qdrant.store.connect import is_embedded
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.ray.board import Chunk, Question
from clip_qdrant_ingestion.run.decisions import Task, is_rewrite
from clip_qdrant_ingestion.run.stages import Decoded, ObjectOutcome, Read, Stages
from clip_qdrant_ingestion.sources.protocol import Source

__all__ = ["ChunkWorker", "Job", "get_worker", "report_errors"]

_REFUSAL = (
    "an embedded store belongs to one process, and the workers of a Ray cluster are many: run a Qdrant server "
    '(docker compose up -d qdrant) and connect("http://its-host:6333")'
)


@dataclass(frozen=True)
class Job:
    """What the workers are told of a run. `compare`: near-duplicates are looked for."""

    key: str
    board: Any  # the handle of the actor
    source: Source
    open_collection: Callable[[], ImageCollection]
    options: IngestOptions
    compare: bool


class ChunkWorker:
    """The stages, on a collection that this process has opened. One chunk at a time."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._collection = _open_collection(job)
        self._told: list[ObjectOutcome] = []
        self._stop = threading.Event()
        self._duplicates = _AskedDuplicates(job.board) if job.compare else None
        self._readers = max(1, job.source.reads_at_once)
        self._pool = ThreadPoolExecutor(self._readers, "ingest-read")
        self._stages = Stages(
            job.source,
            self._collection,
            self._told.append,
            options=job.options,
            stop=self._stop,
            duplicates=self._duplicates,
        )
        threading.Thread(target=self._watch, name="ingest-stop", daemon=True).start()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._collection.client.close()

    def load(self, chunk: Chunk) -> None:
        """Reads with many threads, and decodes what they have read."""
        tasks = [task for task in chunk.tasks if not is_rewrite(task)]
        chunk.tasks = [task for task in chunk.tasks if is_rewrite(task)]
        for found, seconds in self._reads(tasks):
            chunk.add_seconds("read", seconds)
            done: Read | Decoded | Task | None = found
            if isinstance(done, Read):
                if self._stop.is_set():
                    self._stages.release(done)
                    continue
                with chunk.measure("decode"):
                    done = self._stages.decode(done)
            if isinstance(done, Decoded):
                chunk.decoded.append(done)
            elif isinstance(done, Task):
                chunk.tasks.append(done)
        self._report(chunk)

    def embed(self, chunk: Chunk) -> None:
        """Embeds what was decoded; once the run is stopped, nothing is left of the chunk to do."""
        if self._stop.is_set():
            chunk.decoded, chunk.tasks = [], []
        if chunk.decoded:
            with chunk.measure("embed"):
                if self._duplicates is not None:
                    self._duplicates.ask([one.task for one in chunk.decoded])
                chunk.embedded = self._stages.embed(chunk.decoded)
            chunk.decoded = []
        self._report(chunk)

    def write(self, chunk: Chunk) -> None:
        """Stores what was embedded, and the payloads."""
        if chunk.embedded or chunk.tasks:
            with chunk.measure("write"):
                self._stages.write(chunk.embedded, chunk.tasks)
            chunk.embedded, chunk.tasks = [], []
        self._report(chunk)

    def _report(self, chunk: Chunk) -> None:
        chunk.outcomes += self._told
        self._told.clear()

    def _read(self, task: Task) -> tuple[Read | Task | None, float]:
        start = time.monotonic()
        done = None if self._stop.is_set() else self._stages.read(task)
        return done, time.monotonic() - start

    def _reads(self, tasks: Iterable[Task]) -> Iterator[tuple[Read | Task | None, float]]:
        """What reading gave, and the seconds it took, as it comes. Few more are held than there are threads."""
        left = iter(tasks)
        waiting: set[Future[tuple[Read | Task | None, float]]] = set()

        def submit(count: int) -> None:
            waiting.update(self._pool.submit(self._read, task) for task in islice(left, count))

        submit(2 * self._readers)
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    waiting.remove(future)
                    submit(1)
                    yield future.result()
        finally:
            for future in waiting:
                future.cancel()

    def _watch(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # the run has ended, and its board with it
            ray.get(self.job.board.stop.remote())
        self._stop.set()


_open: list[ChunkWorker] = []  # one at most: a process may serve one run after the other


def get_worker(job: Job) -> ChunkWorker:
    """The worker of this process, opened when it is first asked for."""
    if not _open or _open[0].job.key != job.key:
        while _open:
            _open.pop().close()
        _open.append(ChunkWorker(job))
    return _open[0]


def report_errors(job: Job, work: Callable[[], None]) -> None:
    """Does the work. What it raises ends the run, and the driver is told: from Ray it would get another error."""
    try:
        work()
    except Exception as error:
        ray.get(job.board.fail.remote(_pack(error)))
        raise


def _pack(error: Exception) -> bytes:
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)  # noqa: S301  it is our own
    except Exception:  # noqa: BLE001  an error may hold anything, and need anything to be made again
        return pickle.dumps(ClipQdrantError(f"{type(error).__name__}: {error}"))
    return packed


def _open_collection(job: Job) -> ImageCollection:
    try:
        collection = job.open_collection()
    except StoreLocked as error:
        raise ConfigError(f"{error}; {_REFUSAL}") from error
    client = collection.client
    local = isinstance(client, QdrantClient) and isinstance(getattr(client, "_client", None), QdrantLocal)
    if local or is_embedded(client):
        raise ConfigError(f"collection {collection.name!r} is in an embedded store; {_REFUSAL}")
    return collection


class _AskedDuplicates:
    """Near-duplicates as the driver knows them, asked for a batch at a time."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._answers: dict[Question, str | None] = {}

    def ask(self, tasks: Sequence[Task]) -> None:
        """Asks for all that `first` will be asked for."""
        questions: list[Question] = [(task.item.uri, task.record.image.phash) for task in tasks if task.record.image]
        self._answers = dict(zip(questions, self._ask(questions), strict=True))

    def find_first(self, uri: str, phash: str) -> str | None:
        question = uri, phash
        return self._answers.pop(question) if question in self._answers else self._ask([question])[0]

    def _ask(self, questions: list[Question]) -> list[str | None]:
        answers: list[str | None] = ray.get(self._board.ask.remote(questions))
        return answers
