"""`clip-qdrant ingest --watch`: where changes come from, and which folder of the source each is in."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from clip_qdrant.cli.output import stderr_console
from clip_qdrant.errors import ConfigError
from clip_qdrant.uris import path_of, to_uri
from clip_qdrant_ingestion.cli.progress import ingest_progress
from clip_qdrant_ingestion.run.extent import Extent
from clip_qdrant_ingestion.run.report import Progress, Report
from clip_qdrant_ingestion.sources.open import kind_of_source
from clip_qdrant_ingestion.sources.tree.selection import Selection
from clip_qdrant_ingestion.worker.events.change_queue import ChangeQueue
from clip_qdrant_ingestion.worker.events.file_system import file_events
from clip_qdrant_ingestion.worker.events.messages import read_lines
from clip_qdrant_ingestion.worker.watch import watch

if TYPE_CHECKING:
    from clip_qdrant_ingestion.settings import IngestSettings
    from clip_qdrant_ingestion.worker.health import Health
    from clip_qdrant_ingestion.worker.worker import Worker

__all__ = ["make_change_queue", "watch_source"]


def make_change_queue(settings: IngestSettings, source: str, *, stdin: bool) -> ChangeQueue:
    """The queue for changes of a source. Raises ConfigError if nothing would ever tell of any."""
    told = stdin or settings.health is not None or settings.interval is not None
    if not told and _kind(settings, source) != "folder":
        raise ConfigError(
            f"nothing tells of changes in {source}: set --interval, send events to --health, or read them by --events"
        )
    return ChangeQueue(_folder_of(settings, source))


def watch_source(
    worker: Worker,
    settings: IngestSettings,
    source: str,
    queue: ChangeQueue,
    health: Health,
    stop: threading.Event,
    *,
    stdin: bool,
) -> Report | None:
    """Keeps the collection up to date until `stop` is set; gives the report of the last run."""
    with contextlib.ExitStack() as stack:
        if _kind(settings, source) == "folder":
            ignored = [path for path in (settings.location, settings.state) if path is not None]
            suffixes = Selection(settings.include).suffixes
            folder = path_of(source) or Path(source)
            stack.enter_context(file_events(folder, queue, suffixes=suffixes, ignored=ignored, hidden=settings.hidden))
        if stdin:
            threading.Thread(
                target=_read_events, args=(sys.stdin.buffer, queue), name="events on stdin", daemon=True
            ).start()
        draw = stack.enter_context(ingest_progress(stderr_console()))

        def progress(event: Progress) -> None:
            draw(event)
            health.note_progress(event)

        def run(extent: Extent) -> Report:
            return worker.run(extent, progress=progress)

        return watch(run, queue, stop=stop, health=health, interval=settings.interval)


def _read_events(stream: BinaryIO, queue: ChangeQueue) -> None:
    try:
        for change in read_lines(stream):
            queue.put([change])
    except Exception as error:  # noqa: BLE001  nobody sees a thread fail; the queue raises it in the main loop
        queue.fail(error)


def _kind(settings: IngestSettings, source: str) -> str:
    return settings.source_kind or kind_of_source(source)


def _folder_of(settings: IngestSettings, source: str) -> Callable[[str], str | None]:
    """Which folder of the source the object at a uri is in; what has no folders is looked at whole."""
    kind = _kind(settings, source)
    if kind not in ("folder", "bucket"):
        return lambda uri: ""  # noqa: ARG005
    root = path_of(to_uri(source)) if kind == "folder" else None
    prefix = source.rstrip("/") + "/"

    def folder_of(uri: str) -> str | None:
        if root is None:
            return uri[len(prefix) :].rpartition("/")[0] if uri.startswith(prefix) else None
        path = path_of(uri)
        if path is None or root not in path.parents:
            return None
        name = path.parent.relative_to(root).as_posix()
        return "" if name == "." else name

    return folder_of
