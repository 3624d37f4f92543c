"""Watch mode: a whole run at the start, then a run for what changed, for as long as the worker lives.

Changes come into a `ChangeQueue` from file-system events (`file_events`), from messages on stdin (`events.read_lines`)
and by HTTP (`endpoints.serve`), in any combination. With an interval, whole runs find what nobody told of.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from clip_qdrant.errors import ConfigError, SourceError, StoreFull, StoreUnavailable
from clip_qdrant_ingestion.run.extent import Extent
from clip_qdrant_ingestion.run.report import COUNTS, Report
from clip_qdrant_ingestion.worker.events.change_queue import ChangeQueue
from clip_qdrant_ingestion.worker.health import Health

__all__ = ["wait_for_store", "watch"]

logger = logging.getLogger(__name__)

_STEP = 0.1  # seconds between looks at the queue and at `stop`
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0  # seconds after failed runs, doubled with each


def watch(
    run: Callable[[Extent], Report],
    queue: ChangeQueue,
    *,
    stop: threading.Event,
    health: Health | None = None,
    interval: float | None = None,
    pauses: tuple[float, float] = (_FIRST_PAUSE, _LONGEST_PAUSE),
    clock: Callable[[], float] = time.monotonic,
) -> Report | None:
    """Runs until `stop` is set or a run was interrupted; gives the report of the last one that ended.

    `interval`: seconds from the end of one whole run to the next. A run that fails because store or source is away is
    made again after a pause of `pauses[0]` seconds, doubled with each failure up to `pauses[1]`; what it was to look at
    is not lost. Any other error ends the watch, and so does a source that cannot be listed the first time, unless that
    may pass by itself.
    """
    if interval is not None and interval <= 0:
        raise ConfigError(f"the interval is {interval:g} seconds: it must be more than 0")
    health = health or Health()
    report: Report | None = None
    failures, resume_at, whole_at = 0, -math.inf, math.inf
    queue.put_everything(at_once=True)
    while not stop.is_set():
        now = clock()
        if now >= whole_at:
            queue.put_everything(at_once=True)
            whole_at = math.inf
        extent = queue.take() if now >= resume_at else None
        if extent is None:
            health.tick(waiting=queue.waiting)
            time.sleep(_STEP)  # not stop.wait: a signal handler that sets an event its own thread waits for may hang
            continue
        try:
            report = _run(run, extent, health)
        except (StoreUnavailable, StoreFull, SourceError) as error:
            if isinstance(error, SourceError) and not error.transient and report is None:
                raise
            queue.put_back(extent)
            pause = _pause(failures, pauses)
            failures, resume_at = failures + 1, clock() + pause
            logger.warning("the run failed and is made again in %g s: %s", pause, error)
            continue
        failures = 0
        if report.interrupted:
            break
        if extent.folders is None and interval is not None:
            whole_at = clock() + interval
    return report


def wait_for_store(
    ask: Callable[[], object],
    *,
    stop: threading.Event,
    health: Health | None = None,
    pauses: tuple[float, float] = (_FIRST_PAUSE, _LONGEST_PAUSE),
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Comes back when `ask` no longer raises StoreUnavailable, or `stop` is set. The pauses are those of `watch`.

    Where worker and store start together, the store may be the later one.
    """
    health = health or Health()
    failures = 0
    while not stop.is_set():
        try:
            ask()
            return
        except StoreUnavailable as error:
            pause = _pause(failures, pauses)
            failures, resume_at = failures + 1, clock() + pause
            health.note_outage(str(error))
            logger.warning("the store is away and is asked again in %g s: %s", pause, error)
        while clock() < resume_at and not stop.is_set():
            health.tick()
            time.sleep(_STEP)


def _pause(failures: int, pauses: tuple[float, float]) -> float:
    """Seconds after the next failure, when there were so many before it."""
    return min(pauses[0] * 2.0 ** min(failures, 60), pauses[1])


def _run(run: Callable[[Extent], Report], extent: Extent, health: Health) -> Report:
    where = "everything" if extent.folders is None else f"folders: {len(extent.folders)}"
    logger.info("run over %s, said to be removed: %d", where, len(extent.removed))
    health.note_start()
    try:
        report = run(extent)
    except Exception as error:
        health.note_failure(error)
        raise
    health.note_end(report)
    counts = {name: getattr(report, name) for name in COUNTS} | {"quarantined": len(report.quarantined)}
    shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing"
    logger.info("run done in %.1f s: %s", report.seconds, shown, extra={"seconds": report.seconds, **counts})
    return report
