"""Board: an actor between the driver of a Ray cluster and its workers; Link: the driver's end of it.

Chunks and the stop go one way, failures and questions the other. A chunk is a batch of objects that goes through the
stages.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from clip_qdrant.errors import ClipQdrantError

if TYPE_CHECKING:  # the process of the board needs neither, and is to start quickly
    from clip_qdrant_ingestion.run.decisions import Task
    from clip_qdrant_ingestion.run.stages import Decoded, Embedded, ObjectOutcome

__all__ = ["Chunk", "Link", "Question", "machines", "resources"]

_MOST_WAITING = 100_000  # calls: each worker process waits for the stop, and may wait for an answer

Question = tuple[str, str]  # an image to compare with others: its uri and its hash


@dataclass(slots=True)
class Chunk:
    """A batch of objects on its way. What a stage is done with is in `outcomes`; `seconds` are of work, by stage."""

    number: int
    tasks: list[Task] = field(default_factory=list)
    decoded: list[Decoded] = field(default_factory=list)
    embedded: list[Embedded] = field(default_factory=list)
    outcomes: list[ObjectOutcome] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Counts time as work of a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Counts the time of what is done within as work of a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.add_seconds(stage, time.monotonic() - start)


class _Board:
    """What it knows the driver knows too, and says again to a board that was started anew: `incarnation` tells.

    A chunk keeps its number, so whoever asks for a number again gets the same: a task that is started anew repeats
    what it had given, and Ray relies on that.
    """

    def __init__(self) -> None:
        self._incarnation = uuid.uuid4().hex
        self._chunks: dict[int, bytes] = {}
        self._begun: dict[int, Counter[str]] = {}
        self._made = 0
        self._ended = self._stopped = self._closed = False
        self._failure: bytes | None = None
        self._questions: dict[str, list[Question]] = {}
        self._answers: dict[str, asyncio.Future[list[str | None]]] = {}
        self._changed = asyncio.Condition()

    async def exchange(
        self,
        incarnation: str,
        *,
        chunks: Mapping[int, bytes],
        returned: Sequence[int],
        made: int,
        ended: bool,
        stopped: bool,
    ) -> tuple[str, bytes | None]:
        """Takes what is new, unless it is meant for an earlier board; gives its incarnation and the first failure.

        `made` chunks there are so far, those `returned` need not be kept, and if `ended` there will be no more.
        """
        async with self._changed:
            if incarnation == self._incarnation:
                self._chunks.update(chunks)
                for number in returned:
                    self._chunks.pop(number, None)
                    self._begun.pop(number, None)
                self._made, self._ended, self._stopped = made, ended, stopped
                self._changed.notify_all()
        return self._incarnation, self._failure

    async def chunk(self, number: int) -> bytes | None:
        """Waits for a chunk. Empty for one that has returned already, None if there is none any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: number < self._made or self._ended or self._stopped or self._closed)
            if self._closed:
                raise ClipQdrantError("the run has ended")  # so that Ray drops what is still on its way
            if number < self._made and not self._stopped:
                return self._chunks.get(number, b"")
            return None

    async def begins(self, number: int, stage: str) -> int:
        """A worker begins with a stage of a chunk; gives how often that has happened."""
        begun = self._begun.setdefault(number, Counter())
        begun[stage] += 1
        return begun[stage]

    async def stop(self) -> None:
        """Waits for the run to be stopped, or to end."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._stopped or self._closed)

    async def fail(self, failure: bytes) -> None:
        """A worker says why the run must end: a pickled exception."""
        self._failure = self._failure or failure

    async def ask(self, questions: list[Question]) -> list[str | None]:
        """What the driver answers."""
        key = uuid.uuid4().hex
        answer: asyncio.Future[list[str | None]] = asyncio.get_running_loop().create_future()
        async with self._changed:
            self._questions[key], self._answers[key] = questions, answer
            self._changed.notify_all()
        return await answer

    async def questions(self) -> dict[str, list[Question]] | None:
        """Waits for those that came since the last call, by key; None at the end of the run."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._questions or self._closed)
            questions, self._questions = self._questions, {}
        return None if self._closed else questions

    async def answer(self, answers: Mapping[str, list[str | None]]) -> None:
        for key, answer in answers.items():
            waiting = self._answers.pop(key, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    async def close(self) -> None:
        """The run has ended: nobody is kept waiting."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()


class Link:
    """A board, and all that was put on it and has not returned. Only `note_return` may come from another thread."""

    def __init__(self) -> None:
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board)
        self.board = actor.options(max_concurrency=_MOST_WAITING).remote()  # the handle of the actor
        self._lock = threading.Lock()
        self._chunks: dict[int, bytes] = {}
        self._unsent: list[int] = []
        self._returned: list[int] = []
        self._made = 0
        self._incarnation = ""

    def put(self, tasks: Sequence[Task]) -> None:
        """A new chunk. It is sent with the next exchange."""
        packed = pickle.dumps(Chunk(self._made, list(tasks)), protocol=5)
        with self._lock:
            self._chunks[self._made] = packed
        self._unsent.append(self._made)
        self._made += 1

    def note_return(self, number: int) -> None:
        """This chunk has come back."""
        with self._lock:
            if self._chunks.pop(number, None) is not None:
                self._returned.append(number)

    @property
    def chunks(self) -> int:
        """How many chunks have not returned."""
        return len(self._chunks)

    @property
    def size(self) -> int:
        """Their bytes."""
        with self._lock:
            return sum(map(len, self._chunks.values()))

    def exchange(self, *, ended: bool, stopped: bool) -> None:
        """Tells the board what is new. Raises what a worker failed with."""
        while True:
            with self._lock:
                chunks = {number: self._chunks[number] for number in self._unsent if number in self._chunks}
                returned, self._returned = self._returned, []
            incarnation, failure = ray.get(
                self.board.exchange.remote(
                    self._incarnation, chunks=chunks, returned=returned, made=self._made, ended=ended, stopped=stopped
                )
            )
            if failure is not None:
                raise pickle.loads(failure)  # noqa: S301  our own workers wrote it
            if incarnation == self._incarnation:
                self._unsent = []
                return
            self._incarnation = incarnation  # it was started anew, and knows nothing
            with self._lock:
                self._unsent = sorted(self._chunks)

    def answer(self, reply: Callable[[Question], str | None]) -> None:
        """Answers questions until the link is closed; for a thread of its own."""
        with contextlib.suppress(ray.exceptions.RayError):
            while (asked := ray.get(self.board.questions.remote())) is not None:
                answers = {key: [reply(one) for one in questions] for key, questions in asked.items()}
                ray.get(self.board.answer.remote(answers))

    def close(self) -> None:
        """Ends the dataset that the board feeds, if it has not ended."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self.board.close.remote())

    def drop(self) -> None:
        """Ends the board."""
        ray.kill(self.board)


def resources() -> dict[str, float]:
    """What the cluster has, by name: CPU, GPU."""
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's has no annotations
    return found


def machines() -> int:
    """The number of machines of the cluster."""
    return sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]  # as above
