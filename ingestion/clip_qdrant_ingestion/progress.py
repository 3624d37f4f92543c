"""A progress bar for a terminal, drawn with rich.

with ingest_progress(Console(stderr=True)) as show:
    report = ingest(source, collection, progress=show)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich import progress as bars
from rich.console import Console

from clip_qdrant_ingestion.report import Progress

__all__ = ["ingest_progress"]


@contextlib.contextmanager
def ingest_progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A bar while the context lasts; what it gives takes the events of `ingest`. On no terminal nothing is drawn."""
    bar = bars.Progress(
        bars.SpinnerColumn(),
        bars.BarColumn(bar_width=30),
        bars.TextColumn("{task.completed:,.0f} of {task.fields[listed]}"),
        bars.TextColumn("[bold]{task.fields[rate]:.1f}[/] images/s"),
        bars.TextColumn("queue {task.fields[queue]}"),
        bars.TextColumn("{task.fields[skipped]:,} unchanged"),
        bars.TextColumn("{task.fields[quarantined]}"),
        bars.TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None, listed="0", rate=0.0, queue="0/0", skipped=0, quarantined="")

        def show(event: Progress) -> None:
            bar.update(
                task,
                total=None if event.listing else max(event.listed, event.done),
                completed=event.done,
                listed=f"{event.listed:,}{'+' if event.listing else ''}",
                rate=event.images_per_second,
                queue=f"{event.queued}/{event.queue_size}",
                skipped=event.skipped,
                quarantined=f"[red]{event.quarantined:,} quarantined[/]" if event.quarantined else "",
            )

        yield show
