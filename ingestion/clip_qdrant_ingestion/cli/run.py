"""The run of `clip-qdrant ingest`: one, or one after the other, with probes, and an end when a signal asks for it."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clip_qdrant.cli import wiring
from clip_qdrant.cli.failures import INTERRUPTED, QUARANTINED, REFUSED, TERMINATED
from clip_qdrant.cli.output import plain, stderr_console
from clip_qdrant.errors import ConfigError, StoreUnavailable
from clip_qdrant.hosts import parse_address
from clip_qdrant_ingestion.cli.worker import open_worker, source_place
from clip_qdrant_ingestion.run.report import Plan, Progress, Report
from clip_qdrant_ingestion.worker.endpoints import serve
from clip_qdrant_ingestion.worker.health import Health
from clip_qdrant_ingestion.worker.logs import json_logging
from clip_qdrant_ingestion.worker.metrics import Metrics
from clip_qdrant_ingestion.worker.worker import Worker

if TYPE_CHECKING:
    from clip_qdrant_ingestion.settings import IngestSettings

__all__ = ["RunEnd", "plan_run", "run"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How it ended: the report of the (last) run, None if there was none, and the exit code."""

    report: Report | None
    code: int


def plan_run(settings: IngestSettings, *, retry_failed: bool) -> Plan:
    """What a run would do."""
    with open_worker(settings, retry_failed=retry_failed, noted={}, stop=threading.Event(), remembers=False) as worker:
        return worker.plan()


def run(settings: IngestSettings, *, retry_failed: bool, events: bool, noted: Mapping[str, str]) -> RunEnd:
    """One run, or with `settings.watch` or `events` one after the other. SIGTERM finishes the batches in hand."""
    watches = settings.watch or events
    if settings.bulk and settings.shard is not None:
        raise ConfigError("--bulk is not for one of several workers: the first to end would switch indexing on for all")
    ended_by = _Signals()
    try:
        with contextlib.ExitStack() as stack:
            if settings.log_format == "json":
                stack.enter_context(json_logging())
            stack.enter_context(_catch_signals(ended_by))
            report = _get_ready_and_run(
                settings, stack, ended_by, retry_failed=retry_failed, events=events, noted=noted
            )
    except KeyboardInterrupt:  # before anything was begun, or for the second time
        if ended_by.signal is None:
            raise
        report = None
    return RunEnd(report, _exit_code(report, ended_by, watches=watches))


def _get_ready_and_run(
    settings: IngestSettings,
    stack: contextlib.ExitStack,
    ended_by: _Signals,
    *,
    retry_failed: bool,
    events: bool,
    noted: Mapping[str, str],
) -> Report | None:
    """The report of the (last) run, None if there was none; `stack` holds what it needs until the end."""
    watches = settings.watch or events
    health, queue = _make_health(settings), None
    place = source_place(settings)
    if watches:
        from clip_qdrant_ingestion.cli.watch import make_change_queue

        queue = make_change_queue(settings, place, stdin=events)
    if settings.health is not None:
        host, port = parse_address("health", settings.health)
        token = settings.events_token.get_secret_value() if settings.events_token else None
        url = stack.enter_context(
            serve(health, host=host, port=port, on_events=queue.put if queue is not None else None, token=token)
        )
        if settings.log_format == "json":
            logger.info("health, metrics and events at %s", url)
        else:
            print(f"health: {url}", file=sys.stderr)
    if watches:
        _wait_for_store(settings, ended_by.stop, health)
    worker = stack.enter_context(
        open_worker(
            settings,
            retry_failed=retry_failed,
            noted=noted,
            stop=ended_by.stop,
            health=health,
            sharing="process" if watches else "host",
        )
    )
    ended_by.waits = True
    try:
        if queue is None:
            return _run_once(worker, health)
        from clip_qdrant_ingestion.cli.watch import watch_source

        return watch_source(worker, settings, place, queue, health, ended_by.stop, stdin=events)
    except StoreUnavailable as error:
        if ended_by.signal is None:
            raise
        logger.warning("the store is away, and a signal asked for the end: %s", error)
        return None


def _wait_for_store(settings: IngestSettings, stop: threading.Event, health: Health) -> None:
    """Where worker and server start together, the server may be the later one; a folder is there at once."""
    if "://" not in settings.location:
        return
    from clip_qdrant.store.calls import call
    from clip_qdrant_ingestion.worker.watch import wait_for_store

    what = f"look for {plain(settings.collection)}"
    with contextlib.closing(wiring.open_client(settings)) as client:
        wait_for_store(
            lambda: call(lambda: client.collection_exists(settings.collection), what=what, patience=0),
            stop=stop,
            health=health,
        )


def _run_once(worker: Worker, health: Health) -> Report:
    from clip_qdrant_ingestion.cli.progress import ingest_progress

    health.note_start()
    with ingest_progress(stderr_console()) as draw:

        def progress(event: Progress) -> None:
            draw(event)
            health.note_progress(event)

        try:
            report = worker.run(progress=progress)
        except Exception as error:
            health.note_failure(error)
            raise
    health.note_end(report)
    return report


def _exit_code(report: Report | None, ended_by: _Signals, *, watches: bool) -> int:
    if ended_by.signal is not None:
        if watches or report is None or report.interrupted:
            return TERMINATED if ended_by.signal == signal.SIGTERM else INTERRUPTED
    elif report is not None and report.interrupted:
        return INTERRUPTED
    if report is not None and report.refused:
        return REFUSED
    return QUARANTINED if report is not None and (report.quarantined or report.still_bad) else 0


class _Signals:
    """What asked for the end: `stop` is set, and `signal` says by which signal.

    `waits` says that there may be batches in hand, for which the end waits; before, it comes at once.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.signal: int | None = None
        self.waits = False


@contextlib.contextmanager
def _catch_signals(asked: _Signals) -> Iterator[None]:
    """SIGTERM and Ctrl-C set `stop`, a second Ctrl-C ends at once. Outside the main thread signals are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        if asked.signal is not None and number == signal.SIGINT:  # the second Ctrl-C
            raise KeyboardInterrupt
        asked.signal = number  # first of all: the next may come while this one is told of
        asked.stop.set()
        if not asked.waits:
            logger.warning("%s: nothing was begun", signal.Signals(number).name)
            raise KeyboardInterrupt
        logger.warning("%s: finishing the batches in hand", signal.Signals(number).name)

    before: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _make_health(settings: IngestSettings) -> Health:
    """What the worker is asked about; metrics only where somebody can ask for them."""
    stall = 300.0 + settings.patience
    return Health(stall=stall, metrics=Metrics() if settings.health is not None else None)
