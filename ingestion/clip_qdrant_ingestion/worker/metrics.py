"""Prometheus metrics of the worker, in a registry of their own.

They are fed with what runs tell: `Progress` while one goes on, its `Report` at the end. A run counts from zero; the
counters here go on over all runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clip_qdrant.errors import MissingExtra
from clip_qdrant_ingestion.run.report import Progress, Report

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

__all__ = ["CONTENT_TYPE", "OUTCOMES", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = (
    "added", "updated", "renamed", "copied", "payload_updated", "skipped", "duplicates", "still_bad", "quarantined",
    "deleted",
)  # fmt: skip
_RUN_OUTCOMES = ("done", "refused", "interrupted", "failed")
_PREFIX = "clip_qdrant_ingestion_"


class Metrics:
    """The metrics of one process. It sees one run at a time. Raises MissingExtra."""

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
        except ImportError as error:
            raise MissingExtra("prometheus-client", "worker", "showing metrics") from error
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(_PREFIX + name, meaning, labels, registry=registry)

        self._listed = counter("listed_objects", "Objects that sources listed")
        self._objects = counter("objects", "Objects that were dealt with, by outcome", "outcome")
        self._stage_seconds = counter("stage_seconds", "Work of all threads of a stage in finished runs", "stage")
        self._stage_busy = gauge(
            "stage_busy_ratio", "Share of its time that a stage worked in the run at hand", "stage"
        )
        self._queued = gauge("queue_objects", "Objects that wait for a stage", "stage")
        self._capacity = gauge("queue_capacity_objects", "Objects that may wait for a stage", "stage")
        self._runs = counter("runs", "Runs by outcome", "outcome")
        self._running = gauge("running", "Whether a run goes on")
        self._seconds = gauge("last_run_seconds", "How long the last finished run took")
        self._success = gauge(
            "last_success_timestamp_seconds", "When the last run was done, seconds since 1970; 0: none"
        )
        self._ready = gauge("ready", "Whether the model is loaded and the store answers")
        self._waiting = gauge("waiting_changes", "Folders and removed objects that wait for the next run")
        for outcome in OUTCOMES:  # a series that is there from the start has a rate from the start
            self._objects.labels(outcome)
        for outcome in _RUN_OUTCOMES:
            self._runs.labels(outcome)
        self._counted: dict[str, int] | None = None  # of the run that goes on

    def note_start(self) -> None:
        """A run begins; its counts begin at zero."""
        self._counted = {}
        self._running.set(1)

    def note_progress(self, event: Progress) -> None:
        """Takes what a run that was started has done so far."""
        if self._counted is None:  # a straggler: all of its run is counted
            return
        self._count(self._counted, {name: getattr(event, name) for name in ("listed", *OUTCOMES)})
        for stage, (queued, capacity) in event.queues.items():
            self._queued.labels(stage).set(queued)
            self._capacity.labels(stage).set(capacity)
        for stage, share in event.stages.items():
            self._stage_busy.labels(stage).set(share)

    def note_end(self, report: Report) -> None:
        """Takes the whole of a run."""
        counts = {name: getattr(report, name) for name in ("listed", *OUTCOMES) if name != "quarantined"}
        self._count(self._counted or {}, {**counts, "quarantined": len(report.quarantined)})
        for stage, work in report.stages.items():
            self._stage_seconds.labels(stage).inc(work.seconds)
        outcome = report.outcome
        self._seconds.set(report.seconds)
        if outcome == "done":
            self._success.set(time.time())
        self._ended(outcome)

    def note_failure(self) -> None:
        """A run ended with an error. What it told of its progress stays counted."""
        self._ended("failed")

    def render(self, *, ready: bool, waiting: int = 0) -> bytes:
        """All metrics in Prometheus' text format (CONTENT_TYPE)."""
        from prometheus_client import generate_latest

        self._ready.set(ready)
        self._waiting.set(waiting)
        return generate_latest(self._registry)

    def _count(self, counted: dict[str, int], totals: Mapping[str, int]) -> None:
        for name, total in totals.items():
            more = total - counted.get(name, 0)
            if more > 0:  # events of several threads may overtake each other
                (self._listed if name == "listed" else self._objects.labels(name)).inc(more)
                counted[name] = total

    def _ended(self, outcome: str) -> None:
        self._runs.labels(outcome).inc()
        self._counted = None
        self._running.set(0)
        for gauge in (self._queued, self._capacity, self._stage_busy):
            gauge.clear()
