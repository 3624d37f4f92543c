"""Runs of ingestion in threads of the service: started, followed, stopped; the last ones are remembered."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clip_qdrant.errors import ClipQdrantError, IngestRunning
from clip_qdrant.url_secrets import mask_secrets

if TYPE_CHECKING:
    from clip_qdrant.service.bodies.ingest import IngestOutcome
    from clip_qdrant_ingestion.run.report import Progress, Report

__all__ = ["IngestRun", "IngestRuns", "Work"]

logger = logging.getLogger(__name__)

_KEPT = 20  # a report may name a million objects

# What a run does: it tells of its progress, and comes to its end soon after `stop` is set.
Work = Callable[["Callable[[Progress], None]", threading.Event], "Report"]


@dataclass(slots=True)
class IngestRun:
    """One run. Its thread writes, others read: each attribute is replaced as a whole, `ended_at` last."""

    collection: str
    source: str  # without secrets
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: float = field(default_factory=time.time)
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Progress | None = None
    report: Report | None = None
    error: Exception | None = None
    ended_at: float | None = None

    @property
    def state(self) -> IngestOutcome:
        if self.ended_at is None:
            return "running"
        if self.report is None:
            return "failed"
        outcome: IngestOutcome = self.report.outcome  # type: ignore[assignment]  # a str of these there
        return outcome

    def note(self, progress: Progress) -> None:
        self.progress = progress


class IngestRuns:
    """Of one service: one run at a time in a collection, and `at_once` in all."""

    def __init__(self, *, at_once: int = 2) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._runs: dict[str, IngestRun] = {}  # the oldest first
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def start(self, collection: str, source: str, work: Work) -> IngestRun:
        """Raises IngestRunning if there is no room for it now."""
        run = IngestRun(collection, mask_secrets(source))
        with self._lock:
            going = [one for one in self._runs.values() if one.ended_at is None]
            same = next((one for one in going if one.collection == collection), None)
            if same is not None:
                raise IngestRunning(
                    f"a run from {same.source} into collection {collection!r} is going on ({same.id}): wait for its "
                    "end, or cancel it"
                )
            if len(going) >= self._at_once or self._closed:
                raise IngestRunning(f"{len(going)} runs are going on, and no more are begun: wait for the end of one")
            for old in [one.id for one in self._runs.values() if one.ended_at is not None][: -_KEPT + 1]:
                del self._runs[old]
            self._runs[run.id] = run
            thread = threading.Thread(target=self._carry_out, args=(run, work), name=f"ingest {run.id}", daemon=True)
            self._threads[run.id] = thread
        thread.start()
        return run

    def get(self, run: str) -> IngestRun | None:
        return self._runs.get(run)

    def list(self) -> list[IngestRun]:
        """The newest first."""
        with self._lock:
            return [*reversed(self._runs.values())]

    def close(self, *, patience: float = 30.0) -> None:
        """Stops all runs, which finish the batches in hand, and waits for their end."""
        with self._lock:
            self._closed = True
            threads = [*self._threads.values()]
            for run in self._runs.values():
                run.stop.set()
        end = time.monotonic() + patience
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _carry_out(self, run: IngestRun, work: Work) -> None:
        try:
            run.report = work(run.note, run.stop)
        except ClipQdrantError as error:
            run.error = error
            logger.warning("the run from %s into %r failed: %s", run.source, run.collection, mask_secrets(str(error)))
        except Exception as error:  # the end of a thread: it is told to whoever asks
            run.error = error
            logger.exception("the run from %s into %r failed", run.source, run.collection)
        finally:
            run.ended_at = time.time()
            with self._lock:
                self._threads.pop(run.id, None)
