"""`clip-qdrant demo`: the sample gallery in an embedded store, searched in the terminal and as a page."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain, print_line, print_table, write_text
from clip_qdrant.cli.search import score
from clip_qdrant.content import sample_gallery
from clip_qdrant.errors import ConfigError, FingerprintMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.collection.hits import Hit
    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant_ingestion.settings import IngestSettings

__all__ = ["demo"]

_COLLECTION = "gallery"
_SHOWN = 5
_FIXED = {
    "location": "it keeps its store in --folder",
    "model": "it shows the bundled model",
    "api_key": "it needs no server",
}


@dataclass(frozen=True, slots=True)
class _Example:
    text: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class _Result:
    title: str
    arguments: list[str]  # of the `clip-qdrant search` that gives the same
    where: str | None
    hits: Sequence[Hit]


_EXAMPLES = (
    _Example("a bird"),
    _Example("a musical instrument"),
    _Example("a computer on a desk"),
    _Example("a drink", "category = 'food'"),
    _Example("an animal", "category = 'animals' and tags != 'bird'"),
)


def demo(
    context: typer.Context,
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its store and its page.", metavar="FOLDER")] = Path(
        "demo-data"
    ),
) -> None:
    """Ingest the sample gallery with the bundled model, and run a few searches. Needs no server and no network.

    Its store and its model are its own: --location, --model and --api-key are for the other commands.
    """
    for name in wiring.options_given(context):
        if name in _FIXED:
            raise ConfigError(f"the demo takes no --{name.replace('_', '-')}: {_FIXED[name]}")
    store = folder / "qdrant"
    from clip_qdrant_ingestion.settings import IngestSettings

    own = {"location": str(store.absolute()), "collection": _COLLECTION, "model": "bundled"}
    settings = wiring.settings_of(context, own, IngestSettings)
    client = wiring.open_client(settings)
    try:
        images = _filled(sample_gallery(), settings, client)
        results = [_run(images, example) for example in _EXAMPLES]
        results.append(_more_like(images, results[0].hits[0]))
        categories = images.facet("category")
        summary = f"{images.count()} pieces of public-domain clip art, found by what they show."
    finally:
        client.close()
    from clip_qdrant.pages.hits import Section, page_html

    for result in results:
        rows = [(score(hit), hit.caption or "", hit.metadata.get("category", "")) for hit in result.hits]
        print_line("")
        print_table(result.title, (">score", "title", "category"), rows)
    print_line("")
    print_table("images by category", ("category", ">images"), [(f.value, f.count) for f in categories])
    page = folder / "demo.html"
    sections = [Section(r.hits, r.title, _command(r.arguments, r.where, store)) for r in results]
    write_text(page, page_html("clip-qdrant demo", sections, summary=summary))
    print_line(f"\nthe same with pictures: {plain(page.absolute())}\n\nnext:")
    print_line(f"  {_command(['a sailing boat'], None, store)}")
    print_line("  clip-qdrant ingest FOLDER          your own images, into ./qdrant-data")
    print_line('  clip-qdrant search "a dog on a beach"')


def _run(images: ImageCollection, example: _Example) -> _Result:
    title = f'"{example.text}"' + (f" where {example.where}" if example.where else "")
    hits = images.search(example.text, where=example.where, limit=_SHOWN)
    return _Result(title, [example.text], example.where, hits)


def _more_like(images: ImageCollection, hit: Hit) -> _Result:
    from clip_qdrant.collection.query import Query

    hits = images.search(Query.id(hit.id), limit=_SHOWN)
    return _Result(f'images like "{hit.caption}"', ["--like", hit.id], None, hits)


def _filled(gallery: Path, settings: IngestSettings, client: QdrantBase) -> ImageCollection:
    """The demo's collection with the gallery in it, and nothing else."""
    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant_ingestion import FolderSource
    from clip_qdrant_ingestion.cli.ingest import ingest_source

    embedder = wiring.open_embedder(settings)
    try:
        images = ImageCollection(settings.collection, embedder, client)
    except FingerprintMismatch:  # the weights were updated since the last demo
        client.delete_collection(settings.collection)
        images = ImageCollection(settings.collection, embedder, client)
    source = FolderSource(gallery)
    report = ingest_source(source, images, settings)
    if images.count() != report.listed - len(report.quarantined):  # the gallery was elsewhere, or another, last time
        images.drop()
        report = ingest_source(source, images, settings)
    print_line(
        f"{report.listed} images: {report.added} added in {report.seconds:.1f} s, {report.skipped} were there already"
    )
    return images


def _command(arguments: Sequence[str], where: str | None, store: Path) -> str:
    filtered = ["--where", where] if where else []
    location = ["--location", str(store), "--collection", _COLLECTION]
    return plain(shlex.join(["clip-qdrant", "search", *arguments, *filtered, *location]))
