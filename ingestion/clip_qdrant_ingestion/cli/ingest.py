"""`clip-qdrant ingest`: brings a collection to the state of a source, once or for as long as it changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import print_json, stderr_console
from clip_qdrant.url_secrets import remove_secrets
from clip_qdrant_ingestion.cli.output import show_plan, show_report
from clip_qdrant_ingestion.settings import IngestSettings

if TYPE_CHECKING:
    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant_ingestion import Report, Source

__all__ = ["ingest", "ingest_source"]


def ingest(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            help="A folder; s3://, gs://, az:// or another bucket; a manifest (.csv, .jsonl, .parquet); tar archives; "
            "a web page with links.",
            metavar="SOURCE",
        ),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="The collection to fill.", metavar="NAME")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="What SOURCE is: folder, bucket, manifest, shards or index.", metavar="KIND"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The name of the source, stored with every image.", metavar="NAME")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files of this pattern; may be repeated.", metavar="GLOB")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files and folders of this pattern; may be repeated.", metavar="GLOB")
    ] = None,
    hidden: Annotated[
        bool | None, typer.Option("--hidden", help="Hidden files too, and thumbnails and bins of other programs.")
    ] = None,
    follow_symlinks: Annotated[
        bool | None,
        typer.Option("--follow-symlinks/--no-follow-symlinks", help="Follow the links of a folder, out of it too."),
    ] = None,
    path_pattern: Annotated[
        str | None, typer.Option(help='Fields in the path: "{category}/{year}/*".', metavar="PATTERN")
    ] = None,
    uri_column: Annotated[
        str | None, typer.Option(help="The column of a manifest that names the images.", metavar="COLUMN")
    ] = None,
    uri_base: Annotated[
        str | None, typer.Option(help="Where relative paths of a manifest count from.", metavar="PLACE")
    ] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="Where the bucket's service is.", metavar="URL")] = None,
    object_metadata: Annotated[
        bool | None,
        typer.Option("--object-metadata/--no-object-metadata", help="Ask for the metadata of a bucket's objects."),
    ] = None,
    allow_private: Annotated[
        bool | None, typer.Option("--allow-private", help="Fetch from private and loopback addresses too.")
    ] = None,
    file_tags: Annotated[
        bool | None, typer.Option("--file-tags/--no-file-tags", help="Make EXIF, IPTC and XMP metadata.")
    ] = None,
    name_dates: Annotated[
        bool | None,
        typer.Option("--name-dates/--no-name-dates", help="Take a date from the name of a photo that has no other."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    delete: Annotated[
        bool | None, typer.Option("--delete", help="Delete images that are gone from the source.")
    ] = None,
    max_delete: Annotated[
        str | None, typer.Option(help="The largest part of the collection to delete (10%).", metavar="SHARE")
    ] = None,
    dedupe: Annotated[str | None, typer.Option(help="Near-duplicates: off, tag or skip.", metavar="HOW")] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read again what earlier runs put in quarantine.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(help="The state file: quarantine and reports of runs.", metavar="FILE")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="Only this part of the source: i/n, i from 0 to n - 1.", metavar="I/N")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in one call of the model.", metavar="N")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode.", metavar="N")] = None,
    readers: Annotated[int | None, typer.Option(help="Images read at once.", metavar="N")] = None,
    patience: Annotated[
        float | None, typer.Option(help="Seconds to go on trying when source or store are away.", metavar="S")
    ] = None,
    bulk: Annotated[
        bool | None, typer.Option("--bulk", help="Have the server build no index while the run lasts.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="threads, or ray for a cluster.", metavar="ENGINE")] = None,
    watch: Annotated[bool | None, typer.Option("--watch", help="Go on, and follow changes.")] = None,
    interval: Annotated[
        float | None, typer.Option(help="While watching, a whole run every so many seconds.", metavar="S")
    ] = None,
    events: Annotated[
        bool, typer.Option("--events", help="While watching, read S3 event notifications from stdin.")
    ] = False,
    health: Annotated[
        str | None, typer.Option(help="Serve probes, metrics and events here.", metavar="HOST:PORT")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Bring a collection to the state of SOURCE: store what is new or changed, with its metadata.

    Running it again does only what is left to do. Objects that cannot be used are listed at the end, and the exit
    code is then 6.
    """
    given = {
        "source": source, "collection": collection, "source_kind": kind, "source_name": name, "include": include,
        "exclude": exclude, "path_pattern": path_pattern, "uri_column": uri_column, "endpoint_url": endpoint_url,
        "uri_base": uri_base, "object_metadata": object_metadata, "hidden": hidden, "follow_symlinks": follow_symlinks,
        "allow_private": allow_private, "file_tags": file_tags, "name_dates": name_dates,
        "delete": delete, "max_delete": max_delete,
        "dedupe": dedupe, "state": state, "shard": shard, "batch_size": batch_size, "workers": workers,
        "readers": readers, "patience": patience, "bulk": bulk, "engine": engine, "watch": watch,
        "interval": interval, "health": health,
    }  # fmt: skip
    settings = wiring.settings_of(context, given, IngestSettings)
    from clip_qdrant_ingestion.cli.run import plan_run, run

    noted = {option: str(value) for option, value in given.items() if value is not None}
    if dry_run:
        plan = plan_run(settings, retry_failed=retry_failed)
        if as_json:
            print_json({"collection": settings.collection, **plan.document()})
        else:
            show_plan(plan, settings.collection)
        return
    outcome = run(settings, retry_failed=retry_failed, events=events, noted=noted)
    if outcome.report is not None:
        if as_json:
            print_json({"collection": settings.collection, **outcome.report.document()})
        else:
            show_report(outcome.report, settings.collection, remove_secrets(settings.source or ""))
    raise typer.Exit(outcome.code)


def ingest_source(source: Source, images: ImageCollection, settings: IngestSettings) -> Report:
    """One run over a source that needs no state, with a progress bar on stderr."""
    from clip_qdrant_ingestion import ingest as run
    from clip_qdrant_ingestion.cli.progress import ingest_progress

    with ingest_progress(stderr_console()) as progress:
        return run(
            source,
            images,
            batch_size=settings.batch_size,
            workers=settings.workers,
            limits=wiring.limits_of(settings),
            progress=progress,
        )
