"""How the worker is: what its threads tell, what probes, metrics and people want to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from clip_qdrant.errors import StoreUnavailable
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant_ingestion.run.report import Progress, Report
from clip_qdrant_ingestion.worker.metrics import Metrics

__all__ = ["Health"]


class Health:
    """What is known about the worker, for all its threads. What is told here goes to `metrics` too.

    `stall`: seconds after which a worker that has told nothing counts as hung. It must be longer than loading the
    model takes, and than a run waits for a store that is away.
    """

    def __init__(
        self, *, stall: float = 300.0, metrics: Metrics | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stall, self._metrics, self._clock = stall, metrics, clock
        self._lock = threading.Lock()
        self._ticked = clock()
        self._not_ready: str | None = "the model is not loaded yet"
        self._waiting = 0
        self._progress: Progress | None = None
        self._last: dict[str, Any] | None = None

    def tick(self, *, waiting: int | None = None) -> None:
        """The main loop turns. `waiting`: how many changes wait for the next run."""
        with self._lock:
            self._ticked = self._clock()
            if waiting is not None:
                self._waiting = waiting

    def note_model(self) -> None:
        """The model is there; the store has not answered yet."""
        self.note_outage("the store has not answered yet")

    def note_answer(self) -> None:
        """The store answered."""
        with self._lock:
            self._ticked, self._not_ready = self._clock(), None

    def note_outage(self, reason: str) -> None:
        """The store does not answer; the worker goes on trying."""
        with self._lock:
            self._ticked, self._not_ready = self._clock(), mask_secrets(reason)

    def note_start(self) -> None:
        """A run begins."""
        with self._lock:
            self._ticked, self._progress = self._clock(), Progress()
        if self._metrics is not None:
            self._metrics.note_start()

    def note_progress(self, event: Progress) -> None:
        """A run goes on; give this to `ingest` as `progress`."""
        with self._lock:
            self._ticked = self._clock()
            if self._progress is not None:
                if _settled(event) > _settled(self._progress):
                    self._not_ready = None
                self._progress = event
        if self._metrics is not None:
            self._metrics.note_progress(event)

    def note_end(self, report: Report) -> None:
        """A run came to its end, so the store answered."""
        self._end({"outcome": report.outcome, "report": report.summary()})
        self.note_answer()
        if self._metrics is not None:
            self._metrics.note_end(report)

    def note_failure(self, error: Exception) -> None:
        """A run ended with an error."""
        self._end({"outcome": "failed", "error": mask_secrets(str(error))})
        if isinstance(error, StoreUnavailable):
            self.note_outage(str(error))
        if self._metrics is not None:
            self._metrics.note_failure()

    def _end(self, last: dict[str, Any]) -> None:
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock:
            self._ticked, self._progress, self._last = self._clock(), None, {"ended_at": ended, **last}

    def not_live(self) -> str | None:
        """Why the worker should be started anew, None while it turns."""
        with self._lock:
            silent = self._clock() - self._ticked
        return None if silent <= self._stall else f"nothing has moved for {silent:.0f} s"

    def not_ready(self) -> str | None:
        """Why the worker cannot store images now, None while it can."""
        with self._lock:
            return self._not_ready

    def document(self) -> dict[str, Any]:
        """Run at hand and last run in JSON types. Quarantined objects are counted, not named."""
        with self._lock:
            progress, last, waiting, not_ready = self._progress, self._last, self._waiting, self._not_ready
        run = None
        if progress is not None:
            rate = round(progress.images_per_second, 2)
            run = {**asdict(progress), "done": progress.done, "images_per_second": rate}
        return {"ready": not_ready is None, "not_ready": not_ready, "waiting": waiting, "run": run, "last": last}

    def metrics(self) -> bytes | None:
        """Prometheus' text, None without metrics."""
        if self._metrics is None:
            return None
        with self._lock:
            ready, waiting = self._not_ready is None, self._waiting
        return self._metrics.render(ready=ready, waiting=waiting)


def _settled(event: Progress) -> int:
    """Objects about which the store was asked, or that went there."""
    return event.done - event.quarantined - event.still_bad
