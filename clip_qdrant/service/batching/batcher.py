"""Batcher: what many callers want embedded, gathered into batches that one thread runs.

While a batch runs, what comes in waits, and is the next batch: so an encoder that has nothing to do starts at once, and
one that has much to do gets large batches. Only where several came at once the last time it waits a few milliseconds
for them to come again: answers go out one after the other, and so do the requests that follow them.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

import numpy as np

from clip_qdrant.errors import ConfigError, DeadlineExceeded, Overloaded
from clip_qdrant.service.batching.jobs import EncoderJob
from clip_qdrant.service.http.lifetime import current_lifetime

__all__ = ["Batcher"]

Item = TypeVar("Item")

_SHARE = 16  # items of one job that go into a batch before those of the next
_COMPANY = 16  # jobs; a batch of more is hardly cheaper for each
_LATELY = 0.05  # seconds after a batch in which its callers may be expected again
_LONGEST_PAUSE = 60  # seconds that a caller is told to wait at most


class Batcher(Generic[Item]):
    """`embed` makes float32 (n, dim) of n items; `group` says which of the items of a batch it is given at once, as
    positions. `what` is what items are called in messages.

    At most `most_waiting` items wait, or one job however large it is. `gathering` is in seconds. Jobs are served in
    turn, so that a large one does not hold up the small ones behind it. Close it when it is done with.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[Item]], np.ndarray],
        *,
        what: str,
        dim: int,
        batch_size: int,
        most_waiting: int,
        gathering: float,
        group: Callable[[Sequence[Item]], Sequence[Sequence[int]]] = lambda items: [range(len(items))],
    ) -> None:
        self.batches = 0
        self.items = 0
        self._embed = embed
        self._group = group
        self._what = what
        self._dim = dim
        self._batch_size = batch_size
        self._most_waiting = most_waiting
        self._gathering = gathering
        self._changed = threading.Condition()
        self._jobs: deque[EncoderJob[Item]] = deque()
        self._waiting = 0
        self._awaited = 1  # how many jobs must be there before the thread is woken
        self._company = 1  # how many were in the last batch
        self._ended = -math.inf  # when that was done
        self._seconds_an_item = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"embed-{what}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many items are in no batch yet."""
        return self._waiting

    def submit(self, items: Sequence[Item]) -> Future[np.ndarray]:
        """The vectors of items, float32 (n, dim); what waits for them may be cancelled.

        Raises Overloaded if too many wait, or it is closed. The future raises DeadlineExceeded if the request that this
        is for ends before its turn comes.
        """
        job = EncoderJob(items, dim=self._dim, lifetime=current_lifetime())
        with self._changed:
            if self._closed:
                raise Overloaded("the service is ending: try again when it runs", retry_after=5)
            if self._waiting and self._waiting + len(items) > self._most_waiting:
                raise Overloaded(
                    f"{self._waiting} {self._what} wait for the encoder, and {self._most_waiting} may: try again in "
                    f"{self._pause()} s, or with fewer at once",
                    retry_after=self._pause(),
                )
            self._jobs.append(job)
            self._waiting += len(items)
            if len(self._jobs) >= self._awaited:
                self._changed.notify()
        job.future.add_done_callback(lambda _future: self._leave(job))
        return job.future

    def close(self) -> None:
        """Takes no more, and returns when all that waits is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _pause(self) -> int:
        """Seconds after which what waits now should be done."""
        return min(max(1, math.ceil(self._waiting * self._seconds_an_item)), _LONGEST_PAUSE)

    def _leave(self, job: EncoderJob[Item]) -> None:
        """Takes a job that was given up, or has failed, out of those that wait."""
        if job.waiting:
            with self._changed:
                if job in self._jobs:
                    self._jobs.remove(job)
                    self._waiting -= job.waiting

    def _work(self) -> None:
        while batch := self._gather():
            self.batches += 1  # before whoever waits is told, and may look
            self.items += len(batch)
            start = time.monotonic()
            for group in self._group([job.items[position] for job, position in batch]):
                self._run([batch[position] for position in group])
            self._ended = time.monotonic()
            seconds = (self._ended - start) / len(batch)
            self._seconds_an_item = 0.8 * self._seconds_an_item + 0.2 * seconds if self._seconds_an_item else seconds

    def _gather(self) -> list[tuple[EncoderJob[Item], int]]:
        """The next batch, items as jobs and positions; waits for one. Empty when it is closed and all is done."""
        while True:
            with self._changed:
                self._awaited = 1
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return []
                self._await_company()
                batch, late = self._take()
                self._awaited = self._most_waiting + 1  # it looks itself when the batch is done
            for job in late:
                job.fail(
                    DeadlineExceeded(f"the time of the request ran out while its {self._what} waited for the encoder")
                )
            if batch:
                return batch

    def _await_company(self) -> None:
        now = time.monotonic()
        if now - self._ended > _LATELY:
            return
        self._awaited, end = self._company, now + self._gathering
        while len(self._jobs) < self._awaited and not self._closed and (left := end - time.monotonic()) > 0:
            self._changed.wait(left)

    def _take(self) -> tuple[list[tuple[EncoderJob[Item], int]], list[EncoderJob[Item]]]:
        """A batch of what waits, and the jobs whose time has run out."""
        batch: list[tuple[EncoderJob[Item], int]] = []
        late: list[EncoderJob[Item]] = []
        jobs: set[int] = set()
        while self._jobs and len(batch) < self._batch_size:
            job = self._jobs.popleft()
            if job.is_late:
                self._waiting -= job.waiting
                late.append(job)
                continue
            end = min(job.taken + min(_SHARE, self._batch_size - len(batch)), len(job.items))
            batch += [(job, position) for position in range(job.taken, end)]
            jobs.add(id(job))
            self._waiting -= end - job.taken
            job.taken = end
            if job.waiting:
                self._jobs.append(job)
        if batch:
            self._company = min(len(jobs), _COMPANY)
        return batch, late

    def _run(self, group: Sequence[tuple[EncoderJob[Item], int]]) -> None:
        """Embeds items; if that fails, those of each job alone, so that only the one at fault gets the error."""
        try:
            rows = self._embed_checked([job.items[position] for job, position in group])
        except Exception as error:  # noqa: BLE001  it belongs to whoever gave the item
            jobs = {id(job): job for job, _ in group}
            if len(jobs) == 1:
                next(iter(jobs.values())).fail(error)
                return
            for job in jobs.values():
                self._run([(other, position) for other, position in group if other is job])
            return
        for (job, position), row in zip(group, rows, strict=True):
            job.put(position, row)

    def _embed_checked(self, items: Sequence[Item]) -> np.ndarray:
        rows = self._embed(items)
        if rows.shape != (len(items), self._dim):
            raise ConfigError(f"the embedder made {rows.shape} of {len(items)} {self._what}, not (n, {self._dim})")
        return rows
