"""The stages as threads of this process, with a channel of bounded length before each.

    plan -> read -> decode -> embed -> write

Reading takes many threads, since it mostly waits; decoding one for each core; embedding takes whole batches. The
calling thread plans, and tells of the progress.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from clip_qdrant.errors import SourceError
from clip_qdrant.runtime import cpu_count
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.run.channel import Channel, Halted
from clip_qdrant_ingestion.run.decisions import Task, is_rewrite
from clip_qdrant_ingestion.run.report import StageTime, stage_times
from clip_qdrant_ingestion.run.stages import Decoded, Embedded, Read, Stages

__all__ = ["ThreadEngine"]

logger = logging.getLogger(__name__)

_TICK = 0.1  # seconds: the longest a stop or a failure goes unnoticed
_LINGER = 1.0  # seconds that an image waits for its batch to fill
_EMBEDDERS = 2  # while one waits for its batch, the other's is embedded
_WRITERS = 2
_AHEAD = 20_000  # tasks that are planned before their turn, so that it is known how many there will be
_AHEAD_BYTES = 32 * 1024 * 1024  # of images that an archive gives with its listing


class ThreadEngine:
    """Runs tasks through the stages. `tick` is called on the calling thread, about ten times a second.

    `reads_at_once` threads read, unless `options` names a number of readers.
    Setting `stop` finishes the batches in hand, those being embedded or written, and leaves the rest.
    """

    def __init__(
        self,
        stages: Stages,
        *,
        options: IngestOptions,
        reads_at_once: int,
        stop: threading.Event,
        tick: Callable[[], None],
    ) -> None:
        self._stages, self._batch_size, self._stop, self._tick = stages, options.batch_size, stop, tick
        workers, readers = options.workers or cpu_count(), options.readers or reads_at_once
        self._threads = {"plan": 1, "read": readers, "decode": workers, "embed": _EMBEDDERS, "write": _WRITERS}
        self._to_read: Channel[Task] = Channel(2 * readers)
        self._to_decode: Channel[Read] = Channel(2 * max(readers, workers), producers=readers)
        self._to_embed: Channel[Decoded | Task] = Channel(2 * options.batch_size, producers=readers + workers)
        self._to_write: Channel[tuple[list[Embedded], list[Task]]] = Channel(_WRITERS, producers=_EMBEDDERS + 1)
        self._channels: dict[str, Channel[Any]] = {
            "read": self._to_read,
            "decode": self._to_decode,
            "embed": self._to_embed,
            "write": self._to_write,
        }
        self._lock = threading.Lock()
        self._busy: defaultdict[str, float] = defaultdict(float)
        self._failure: BaseException | None = None
        self._started = time.monotonic()
        self._ended: float | None = None
        self._fed = False  # there will be no more tasks

    @property
    def seconds(self) -> float:
        """How long the run takes, or took."""
        return (self._ended or time.monotonic()) - self._started

    def stage_times(self) -> dict[str, StageTime]:
        """The work of each stage so far."""
        with self._lock:
            busy = dict(self._busy)
        return stage_times(busy, self._threads, self.seconds)

    def queues(self) -> dict[str, tuple[int, int]]:
        """How many objects, or batches, wait for each stage, and how many may."""
        return {name: (len(channel), channel.size) for name, channel in self._channels.items()}

    def run(self, tasks: Iterator[list[Task]]) -> None:
        """Carries all tasks through, or as many as there is time for until it is stopped.

        Raises what a stage raised; KeyboardInterrupt only if it comes a second time, or after a stop.
        """
        workers = [
            *self._group("read", self._read, [self._to_decode, self._to_embed]),
            *self._group("decode", self._decode, [self._to_embed]),
            *self._group("embed", self._embed, [self._to_write]),
            *self._group("write", self._write, []),
        ]
        started: list[threading.Thread] = []
        try:
            for worker in workers:
                worker.start()
                started.append(worker)
            self._feed(tasks)
            self._join(started)
        except KeyboardInterrupt:
            if self._stop.is_set():  # it was asked for before
                self._halt()
                raise
            logger.warning("interrupted: finishing the batches in hand")
            self._stop.set()
            self._close()
            if len(started) < len(workers):  # some will never say that they are done
                self._halt()
            try:
                self._join(started)
            except BaseException:
                self._halt()
                raise
        except BaseException as error:  # noqa: BLE001  it is raised again, after the threads have ended
            self._tick = _no_tick  # its own error may be what failed, and must not keep the threads from being joined
            self._fail(error)
            self._join(started)
        self._ended = time.monotonic()
        if self._failure is not None:
            raise self._failure
        if not self._stop.is_set():
            self._stages.check_answers()

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Counts the time of what is done within as work of a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._busy[stage] += time.monotonic() - start

    # The calling thread

    def _feed(self, tasks: Iterator[list[Task]]) -> None:
        """Plans, ahead of what can be read, and hands out what is planned; an error of planning comes after that."""
        waiting: deque[Task] = deque()
        size, planned, failure = 0, False, None
        try:
            while not self._stop.is_set() and self._failure is None:
                plans = not planned and len(waiting) < _AHEAD and size < _AHEAD_BYTES
                if waiting and self._to_read.put(waiting[0], timeout=0 if plans else _TICK):
                    size -= len(waiting.popleft().item.content or b"")
                elif plans:
                    page: list[Task] | None = None
                    try:
                        with self.measure("plan"):
                            page = next(tasks, None)
                    except SourceError as error:
                        failure = error
                    planned = page is None
                    self._tick()
                    self._offer(self._to_write, [([], batch) for batch in self._rewrites(page or [])])
                    new = [task for task in page or [] if not is_rewrite(task)]
                    size += sum(len(task.item.content or b"") for task in new)
                    waiting.extend(new)
                elif not waiting:
                    break
                else:
                    self._tick()
            if failure is not None:
                raise failure
        except Halted:
            pass  # a stage has failed
        finally:
            self._close()

    def _rewrites(self, page: Sequence[Task]) -> Iterator[list[Task]]:
        tasks = [task for task in page if is_rewrite(task)]
        for start in range(0, len(tasks), self._batch_size):
            yield tasks[start : start + self._batch_size]

    def _offer(self, channel: Channel[Any], items: Sequence[Any]) -> None:
        for item in items:
            while not self._stop.is_set() and not channel.put(item, timeout=_TICK):
                self._tick()

    def _close(self) -> None:
        """There will be no more tasks."""
        with self._lock:
            if self._fed:
                return
            self._fed = True
        self._to_read.done()
        self._to_write.done()

    def _join(self, workers: Sequence[threading.Thread]) -> None:
        for worker in workers:
            while worker.is_alive():
                worker.join(_TICK)
                self._tick()

    # The worker threads

    def _group(
        self, stage: str, work: Callable[[], None], outputs: Sequence[Channel[Any]]
    ) -> Iterator[threading.Thread]:
        def run() -> None:
            try:
                work()
            except Halted:
                pass
            except BaseException as error:  # noqa: BLE001  it is raised again, in the calling thread
                self._fail(error)
            finally:
                for channel in outputs:
                    channel.done()

        for number in range(self._threads[stage]):
            # A daemon: after a second Ctrl-C the process ends without it. Otherwise it is joined.
            yield threading.Thread(target=run, name=f"ingest-{stage}-{number}", daemon=True)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._halt()

    def _halt(self) -> None:
        for channel in self._channels.values():
            channel.halt()
        self._stages.halt()

    def _read(self) -> None:
        for task in self._to_read:
            if self._stop.is_set():
                continue  # it is left for the next run
            with self.measure("read"):
                done = self._stages.read(task)
            if isinstance(done, Read):
                self._to_decode.put(done)
            elif done is not None:
                self._to_embed.put(done)
            del done, task  # or each thread would hold an image while it reads the next

    def _decode(self) -> None:
        for read in self._to_decode:
            if self._stop.is_set():
                self._stages.release(read)
                continue
            with self.measure("decode"):
                done = self._stages.decode(read)
            del read
            if done is not None:
                self._to_embed.put(done)

    def _embed(self) -> None:
        while batch := self._to_embed.take(self._batch_size, linger=_LINGER):
            if self._stop.is_set():
                continue
            decoded = [one for one in batch if isinstance(one, Decoded)]
            with self.measure("embed"):
                embedded = self._stages.embed(decoded) if decoded else []
            self._to_write.put((embedded, [one for one in batch if isinstance(one, Task)]))

    def _write(self) -> None:
        for embedded, tasks in self._to_write:
            with self.measure("write"):
                self._stages.write(embedded, tasks)


def _no_tick() -> None:
    pass
