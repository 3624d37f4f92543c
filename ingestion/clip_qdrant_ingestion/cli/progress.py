"""A progress bar for a terminal, drawn with rich.

with ingest_progress(Console(stderr=True)) as show:
    report = ingest(source, collection, progress=show)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich import progress as bars
from rich.console import Console

from clip_qdrant_ingestion.run.report import Progress

__all__ = ["ingest_progress"]


@contextlib.contextmanager
def ingest_progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A bar while the context lasts; what it gives takes the events of `ingest`. On no terminal nothing is drawn."""
    bar = bars.Progress(
        bars.SpinnerColumn(),
        bars.BarColumn(bar_width=30),
        bars.TextColumn("{task.completed:,.0f} of {task.fields[listed]}"),
        bars.TextColumn("{task.fields[left]}"),
        bars.TextColumn("[bold]{task.fields[rate]:.1f}[/] images/s"),
        bars.TextColumn("{task.fields[pace]}"),
        bars.TextColumn("{task.fields[skipped]:,} unchanged"),
        bars.TextColumn("{task.fields[quarantined]}"),
        bars.TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None, listed="0", left="", rate=0.0, pace="", skipped=0, quarantined="")

        def show(event: Progress) -> None:
            bar.update(
                task,
                total=max(event.listed, event.done) or None,
                completed=event.done,
                listed=f"{event.listed:,}{'+' if event.listing else ''}",
                left=_left(event),
                rate=event.images_per_second,
                pace=_pace(event),
                skipped=event.skipped,
                quarantined=f"[red]{event.quarantined:,} quarantined[/]" if event.quarantined else "",
            )

        yield show


def _left(event: Progress) -> str:
    """How long the rest may take, by the pace of those that needed work; while it is listed, at least that long."""
    waiting, worked = event.listed - event.done, event.done - event.skipped - event.still_bad
    if waiting <= 0 or worked <= 0:
        return ""
    seconds = round(waiting * event.seconds / worked)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
    return f"{'more than' if event.listing else 'about'} {shown} left"


def _pace(event: Progress) -> str:
    """The stage that sets the pace, and how busy it is."""
    if not event.stages:
        return ""
    stage = max(event.stages, key=lambda name: event.stages[name])
    return f"{stage} {event.stages[stage]:.0%} busy"
