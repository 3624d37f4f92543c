"""ServiceMetrics: what Prometheus reads of a service, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from clip_qdrant.errors import MissingExtra

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

__all__ = ["CONTENT_TYPE", "ServiceMetrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "clip_qdrant_service_"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ServiceMetrics:
    """Requests by route, method and status; how long they took; what runs and waits. Raises MissingExtra."""

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
        except ImportError as error:
            raise MissingExtra("prometheus-client", "serve", "showing metrics") from error
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        route = ("route", "method")
        self._requests: Counter = Counter(
            f"{_PREFIX}requests", "Requests that were answered", (*route, "status"), registry=registry
        )
        self._seconds = Histogram(
            f"{_PREFIX}request_seconds", "Until the end of the answer", route, registry=registry, buckets=_SECONDS
        )
        self._in_flight: Gauge = Gauge(f"{_PREFIX}requests_in_flight", "Requests in hand", registry=registry)
        self._queued: Gauge = Gauge(f"{_PREFIX}queue_length", "What waits, by queue", ("queue",), registry=registry)
        self._busy: Gauge = Gauge(f"{_PREFIX}threads_busy", "Threads that run a call", registry=registry)
        self._ready: Gauge = Gauge(f"{_PREFIX}ready", "Whether requests are taken", registry=registry)

    def watch_queue(self, name: str, length: Callable[[], float]) -> None:
        """Shows a queue: `length` is asked whenever the metrics are read."""
        self._queued.labels(name).set_function(length)

    def watch_threads(self, running: Callable[[], float]) -> None:
        self._busy.set_function(running)

    def watch_readiness(self, ready: Callable[[], float]) -> None:
        self._ready.set_function(ready)

    def note_start(self) -> None:
        """A request has come in."""
        self._in_flight.inc()

    def note_end(self, route: str, method: str, status: int, seconds: float) -> None:
        """It is answered. `route` is the path as the application has it, "/v1/points/{id}", so that there are few."""
        self._in_flight.dec()
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)
