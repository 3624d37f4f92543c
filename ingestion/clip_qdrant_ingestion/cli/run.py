"""The run of `clip-qdrant ingest`, put together from settings: source, collection, state file, probes, signals."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clip_qdrant.cli import wiring
from clip_qdrant.cli.failures import INTERRUPTED, QUARANTINED, REFUSED, TERMINATED
from clip_qdrant.cli.output import plain, stderr_console
from clip_qdrant.errors import ConfigError, SourceError, StoreUnavailable
from clip_qdrant.uris import path_of
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.run.engine import Cluster
from clip_qdrant_ingestion.run.report import Plan, Progress, Report
from clip_qdrant_ingestion.sources.open import kind_of_source, make_source
from clip_qdrant_ingestion.sources.options import SourceOptions
from clip_qdrant_ingestion.sources.share import Share
from clip_qdrant_ingestion.state.state import IngestState, default_state_path
from clip_qdrant_ingestion.worker.endpoints import serve
from clip_qdrant_ingestion.worker.health import Health
from clip_qdrant_ingestion.worker.logs import json_logging
from clip_qdrant_ingestion.worker.metrics import Metrics
from clip_qdrant_ingestion.worker.worker import Worker

if TYPE_CHECKING:
    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant_ingestion.settings import IngestSettings
    from clip_qdrant_ingestion.sources.protocol import Source

__all__ = ["RunEnd", "plan_run", "run"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How it ended: the report of the (last) run, None if there was none, and the exit code."""

    report: Report | None
    code: int


def plan_run(settings: IngestSettings, *, retry_failed: bool) -> Plan:
    """What a run would do."""
    with _worker(settings, retry_failed=retry_failed, noted={}, stop=threading.Event(), remembers=False) as worker:
        return worker.plan()


def run(settings: IngestSettings, *, retry_failed: bool, events: bool, noted: Mapping[str, str]) -> RunEnd:
    """One run, or with `settings.watch` or `events` one after the other. SIGTERM finishes the batches in hand."""
    watches = settings.watch or events
    if settings.bulk and settings.shard is not None:
        raise ConfigError("--bulk is not for one of several workers: the first to end would switch indexing on for all")
    with contextlib.ExitStack() as stack:
        if settings.log_format == "json":
            stack.enter_context(json_logging())
        ended_by = stack.enter_context(_signals())
        health, queue = _health(settings), None
        place = _place(settings)
        if watches:
            from clip_qdrant_ingestion.cli.watch import make_change_queue

            queue = make_change_queue(settings, place, stdin=events)
        if settings.health is not None:
            host, port = _address(settings.health)
            token = settings.events_token.get_secret_value() if settings.events_token else None
            url = stack.enter_context(
                serve(health, host=host, port=port, on_events=queue.put if queue is not None else None, token=token)
            )
            if settings.log_format == "json":
                logger.info("health, metrics and events at %s", url)
            else:
                print(f"health: {url}", file=sys.stderr)
        worker = stack.enter_context(
            _worker(settings, retry_failed=retry_failed, noted=noted, stop=ended_by.stop, health=health)
        )
        report = None
        try:
            if queue is not None:
                from clip_qdrant_ingestion.cli.watch import watch_source

                report = watch_source(worker, settings, place, queue, health, ended_by.stop, stdin=events)
            else:
                report = _once(worker, health)
        except StoreUnavailable as error:
            if ended_by.signal is None:
                raise
            logger.warning("the store is away, and a signal asked for the end: %s", error)
        return RunEnd(report, _code(report, ended_by, watches=watches))


def _once(worker: Worker, health: Health) -> Report:
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


def _code(report: Report | None, ended_by: _Signals, *, watches: bool) -> int:
    if ended_by.signal is not None:
        if watches or report is None or report.interrupted:
            return TERMINATED if ended_by.signal == signal.SIGTERM else INTERRUPTED
    elif report is not None and report.interrupted:
        return INTERRUPTED
    if report is not None and report.refused:
        return REFUSED
    return QUARANTINED if report is not None and (report.quarantined or report.still_bad) else 0


class _Signals:
    """What asked for the end: `stop` is set, and `signal` says by which signal."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.signal: int | None = None


@contextlib.contextmanager
def _signals() -> Iterator[_Signals]:
    """SIGTERM and Ctrl-C set `stop`, a second Ctrl-C ends at once. Outside the main thread signals are left alone."""
    asked = _Signals()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def end(number: int, _: object) -> None:
        if asked.signal is not None and number == signal.SIGINT:  # the second Ctrl-C
            raise KeyboardInterrupt
        asked.signal = number  # first of all: the next may come while this one is told of
        asked.stop.set()
        logger.warning("%s: finishing the batches in hand", signal.Signals(number).name)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _worker(
    settings: IngestSettings,
    *,
    retry_failed: bool,
    noted: Mapping[str, str],
    stop: threading.Event,
    health: Health | None = None,
    remembers: bool = True,
) -> Iterator[Worker]:
    source = _open_source(settings)
    path: Path | str = default_state_path(settings.location, settings.cache_dir, settings.state)
    if not remembers and not Path(path).exists():
        path = ":memory:"  # looking makes no file
    with (
        _cluster(settings) as cluster,
        IngestState(path) as state,
        wiring.open_collection(settings, patience=settings.patience, stopped=stop.is_set) as images,
    ):
        if health is not None:
            health.note_model()
            images.exists()
            health.note_answer()
        options = _ingest_options(settings, source, retry_failed=retry_failed)
        yield Worker(
            source, images, state, options, location=settings.location, noted=noted, cluster=cluster, stop=stop
        )


@contextlib.contextmanager
def _cluster(settings: IngestSettings) -> Iterator[Cluster | None]:
    if settings.engine != "ray":
        yield None
        return
    if not settings.location.startswith(("http://", "https://")):
        raise ConfigError(
            f"--engine ray needs a Qdrant server: {plain(settings.location)} can be open in one process alone; "
            "run one (docker compose up -d) and set --location http://localhost:6333"
        )
    from clip_qdrant_ingestion.ray.cluster import RayCluster

    opened = partial(_open_images, settings)
    with RayCluster(opened, address=settings.ray_address, embedders=settings.embedders) as cluster:
        yield cluster


def _place(settings: IngestSettings) -> str:
    if settings.source is None:
        raise ConfigError("no source is named: clip-qdrant ingest SOURCE, or set CLIP_QDRANT_SOURCE")
    place = settings.source
    if (settings.source_kind or kind_of_source(place)) == "folder":
        folder = path_of(place) or Path(place)
        if not folder.is_dir():  # before a model is loaded for it
            why = "it is not a folder" if folder.exists() else "not found"
            raise SourceError(f"cannot list {plain(place)}: {why}")
    return place


def _open_source(settings: IngestSettings) -> Source:
    options = SourceOptions(
        kind=settings.source_kind,
        name=settings.source_name,
        path_pattern=settings.path_pattern,
        share=settings.shard,
        include=settings.include,
        exclude=settings.exclude,
        hidden=settings.hidden,
        uri_column=settings.uri_column,
        base=settings.uri_base,
        endpoint_url=settings.endpoint_url,
        object_metadata=settings.object_metadata,
        allow_private=settings.allow_private,
        patience=settings.patience,
    )
    return make_source(_place(settings), options)


def _ingest_options(settings: IngestSettings, source: Source, *, retry_failed: bool) -> IngestOptions:
    return IngestOptions(
        batch_size=settings.batch_size,
        workers=settings.workers,
        readers=settings.readers,
        limits=wiring.limits_of(settings),
        delete=settings.delete,
        max_delete=settings.max_delete,
        owns=source.owns if isinstance(source, Share) else None,
        dedupe=settings.dedupe,
        tags=settings.file_tags,
        retry_failed=retry_failed,
        patience=settings.patience,
        bulk=settings.bulk,
    )


def _open_images(settings: IngestSettings) -> ImageCollection:
    """The collection in a process of a cluster."""
    from clip_qdrant.collection.images import ImageCollection

    client = wiring.open_client(settings)
    return ImageCollection(settings.collection, wiring.open_embedder(settings), client, patience=settings.patience)


def _health(settings: IngestSettings) -> Health:
    """What the worker is asked about; metrics only where somebody can ask for them."""
    stall = 300.0 + settings.patience
    return Health(stall=stall, metrics=Metrics() if settings.health is not None else None)


def _address(text: str) -> tuple[str, int]:
    """Host and port of "host:port", "[::1]:8080" or "8080"."""
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise ConfigError(f"health is {plain(text)!r}: it must be host:port, such as 127.0.0.1:8080, or a port")
    return host.strip("[]") or "127.0.0.1", int(port)
