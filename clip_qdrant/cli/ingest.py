"""`clip-qdrant ingest`: brings a collection to the state of a folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.failures import INTERRUPTED, QUARANTINED
from clip_qdrant.cli.output import plain, print_json, print_line, print_table, stderr_console
from clip_qdrant.errors import SourceError
from clip_qdrant.records import path_of

if TYPE_CHECKING:
    from clip_qdrant.collection import ImageCollection
    from clip_qdrant.settings import Settings
    from clip_qdrant_ingestion import Report, Source

__all__ = ["ingest", "ingest_source"]

_PATIENCE = 30.0  # seconds: a long run outlives the restart of a server
_SHOWN = 50  # quarantined files in the table; --json has them all


def ingest(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="The folder of images; those below it too.", metavar="FOLDER")],
    collection: Annotated[str | None, typer.Option(help="The collection to fill.", metavar="NAME")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files of this pattern; may be repeated.", metavar="GLOB")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files and folders of this pattern; may be repeated.", metavar="GLOB")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in one call of the model.", metavar="N")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads.", metavar="N")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Store the images of FOLDER that are new or changed, with their metadata.

    Captions and metadata come from metadata.jsonl, metadata.csv or files beside the images. Running it again does only
    what is left to do. Files that cannot be used are listed at the end, and the exit code is then 6.
    """
    settings = wiring.settings_of(context, {"collection": collection, "batch_size": batch_size, "workers": workers})
    if not folder.is_dir():  # before a model is loaded for it
        raise SourceError(f"cannot list {plain(folder)}: {'it is not a folder' if folder.exists() else 'not found'}")
    from clip_qdrant_ingestion import FolderSource

    source = FolderSource(folder, include=include or (), exclude=exclude or ())
    with wiring.open_collection(settings, patience=_PATIENCE) as images:
        report = ingest_source(source, images, settings)
    if as_json:
        print_json(_document(report, settings))
    else:
        _show(report, settings)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if report.quarantined:
        raise typer.Exit(QUARANTINED)


def ingest_source(source: Source, images: ImageCollection, settings: Settings) -> Report:
    """A run of the pipeline with a progress bar on stderr."""
    from clip_qdrant_ingestion import ingest as run
    from clip_qdrant_ingestion.progress import ingest_progress

    with ingest_progress(stderr_console()) as progress:
        return run(
            source,
            images,
            batch_size=settings.batch_size,
            workers=settings.workers,
            limits=wiring.limits_of(settings),
            progress=progress,
        )


def _document(report: Report, settings: Settings) -> dict[str, Any]:
    counts = ("listed", "added", "updated", "payload_updated", "skipped", "seconds", "interrupted")
    return {
        "collection": settings.collection,
        **{name: getattr(report, name) for name in counts},
        "quarantined": [asdict(row) for row in report.quarantined],
    }


def _show(report: Report, settings: Settings) -> None:
    rows = [
        ("listed", report.listed),
        ("added", report.added),
        ("updated", report.updated),
        ("updated without its vector", report.payload_updated),
        ("unchanged", report.skipped),
        ("quarantined", len(report.quarantined)),
    ]
    rate = f", {report.images_per_second:.1f} images/s" if report.added + report.updated else ""
    print_table(f"collection {settings.collection}", ("images", ">count"), rows)
    print_line(f"{report.seconds:.1f} s{rate}")
    if not report.quarantined:
        return
    shown = report.quarantined[:_SHOWN]
    print_table(
        "quarantined", ("file", "reason", "detail"), [(path_of(r.uri) or r.uri, r.reason, r.detail) for r in shown]
    )
    if len(report.quarantined) > len(shown):
        reasons = Counter(row.reason for row in report.quarantined)
        summary = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
        print_line(f"the first {len(shown)} of {len(report.quarantined)} ({summary}); --json has them all")
