"""`clip-qdrant ingest-report`: the last runs of ingestion, and what they put away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_json, print_line, print_table
from clip_qdrant.errors import StateError
from clip_qdrant_ingestion.cli.output import show_place
from clip_qdrant_ingestion.settings import IngestSettings

if TYPE_CHECKING:
    from clip_qdrant_ingestion.state.reader import LeftOutRecord, QuarantineRecord, RunRecord

__all__ = ["ingest_report"]

_SHOWN = 50  # objects in a table; --json has them all


@dataclass(frozen=True, slots=True)
class _Found:
    """What the state file has of what was asked for; None is what was not."""

    runs: Sequence[RunRecord] | None
    quarantined: Sequence[QuarantineRecord] | None
    reasons: Mapping[str, int]  # how much is in quarantine, also of what is not listed
    duplicates: Sequence[LeftOutRecord] | None


def ingest_report(
    context: typer.Context,
    state: Annotated[
        Path | None, typer.Option(help="The state file; by default that of the store.", metavar="FILE")
    ] = None,
    runs: Annotated[int, typer.Option(help="How many of the last runs to show.", min=1, metavar="N")] = 10,
    failed: Annotated[bool, typer.Option("--failed", help="Show only what is in quarantine.")] = False,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Show only the near-duplicates that were left out.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Show only what is in quarantine for this reason.", metavar="WORD")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Only sources with this text in their name.", metavar="NAME")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many objects; 50 in tables, all with --json.", min=1, metavar="N")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show the last runs of `ingest`, and the objects that could not be used.

    The runs into all collections of the store are shown. Opens neither the store nor the model.
    """
    settings = wiring.settings_of(context, {"state": state}, IngestSettings)
    from clip_qdrant_ingestion.state.state import IngestState, default_state_path

    path = default_state_path(settings.location, settings.cache_dir, settings.state)
    there = _is_there(path)
    failed = failed or reason is not None
    everything = not failed and not duplicates
    shown = limit or (None if as_json else _SHOWN)
    with IngestState(path if there else ":memory:") as opened:  # looking makes no file
        counts = opened.counts_by_reason(source=source)
        found = _Found(
            runs=opened.runs(runs, source=source) if everything else None,
            quarantined=opened.quarantined(None, reason, source=source, limit=shown) if everything or failed else None,
            reasons={row.reason: row.count for row in counts if reason in (None, row.reason)},
            duplicates=opened.left_out(source=source, limit=shown) if duplicates else None,
        )
    if as_json:
        sections = {name: part for name, part in asdict(found).items() if part is not None}
        print_json({"state": str(path), **sections})
    elif there:
        _show(found)
    else:
        print_line(f"no run has left a report: there is no {plain(path)}")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StateError(f"cannot look at the state file {path}: {error.strerror or error}") from error


def _show(found: _Found) -> None:
    if found.runs is not None:
        columns = ("started", ">took", "source", "collection", "outcome", "objects", "slowest stage")
        print_table("runs", columns, map(_run_cells, found.runs))
    if found.quarantined is not None:
        _show_quarantine(found.quarantined, found.reasons)
    if found.duplicates is not None:
        rows = [(show_place(row.uri), show_place(row.first), _time(row.first_seen)) for row in found.duplicates]
        print_table("left out", ("image", "nearly equal to", "since"), rows)


def _show_quarantine(quarantined: Sequence[QuarantineRecord], reasons: Mapping[str, int]) -> None:
    number = sum(reasons.values())
    if not number:
        print_line("nothing is in quarantine")
        return
    grouped = sorted(quarantined, key=lambda row: row.reason)
    rows = [(show_place(r.uri), r.reason, r.detail, _time(r.first_seen), r.attempts) for r in grouped]
    print_table("quarantined", ("object", "reason", "detail", "since", ">attempts"), rows)
    if number > len(rows):
        summary = ", ".join(f"{count} {plain(reason)}" for reason, count in reasons.items())
        print_line(f"the last {len(rows)} of {number} ({summary}); --limit shows more, --json all")


def _run_cells(run: RunRecord) -> tuple[str, ...]:
    took = _duration((run.finished_at - run.started_at).total_seconds()) if run.finished_at else ""
    outcome = f"{run.outcome}: {run.detail}" if run.detail else run.outcome
    report = run.report or {}
    return (
        _time(run.started_at),
        took,
        run.scope.source,
        run.scope.collection,
        outcome,
        _counts(report),
        _bottleneck(report),
    )


def _counts(report: Mapping[str, Any]) -> str:
    """The counts of a report that are not 0."""
    from clip_qdrant_ingestion.run.report import COUNTS

    counts = {name: report.get(name) for name in (*COUNTS, "quarantined")}
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count)


def _bottleneck(report: Mapping[str, Any]) -> str:
    """The stage that set the pace, with the share of the run in which it was busy."""
    stage = report.get("bottleneck")
    return f"{stage} {100 * report['stages'][stage]['share']:.0f} %" if stage else ""


def _time(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _duration(seconds: float) -> str:
    """`0.4 s`, `2 min 05 s` or `3 h 04 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
