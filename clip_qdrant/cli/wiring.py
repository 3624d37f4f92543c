"""From settings to what commands work with. Commands get their client, embedder and collection here and nowhere else.

Tests, and programs that bring their own embedder, replace `open_embedder`.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

import typer

from clip_qdrant.cli.output import plain

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant.embedder_protocol import Embedder
    from clip_qdrant.errors import CollectionNotFound
    from clip_qdrant.images.load import Limits
    from clip_qdrant.settings import Settings

__all__ = [
    "Options",
    "Sharing",
    "limits_of",
    "open_client",
    "open_collection",
    "open_embedder",
    "open_existing_collection",
    "options_given",
    "settings_of",
]

_Kind = TypeVar("_Kind", bound="Settings")
Sharing: TypeAlias = Literal["none", "process", "host"]

_QUIET = 2.0  # seconds after which the user is told what takes so long


@dataclass(slots=True)
class Options:
    """The options that every command takes, as given."""

    settings: dict[str, Any] = field(default_factory=dict)
    config: Path | None = None
    debug: bool = False


@overload
def settings_of(context: typer.Context, given: Mapping[str, Any] | None = None) -> Settings: ...
@overload
def settings_of(context: typer.Context, given: Mapping[str, Any] | None, kind: type[_Kind]) -> _Kind: ...
def settings_of(
    context: typer.Context, given: Mapping[str, Any] | None = None, kind: type[Settings] | None = None
) -> Settings:
    """The settings in force for a command, of the library or of the `kind` it needs.

    `given` are options of its own that are settings too. A file or an environment may hold the settings of every
    command.
    """
    from clip_qdrant.settings import Settings

    options = context.ensure_object(Options)
    return (kind or Settings).load({**options.settings, **(given or {})}, config=options.config, also_known=_all_names)


def _all_names() -> Iterable[str]:
    """The names of the settings of all commands."""
    from clip_qdrant.integrations.mcp.settings import McpSettings
    from clip_qdrant.service.settings import ServeSettings
    from clip_qdrant_ingestion.settings import IngestSettings

    return {**IngestSettings.model_fields, **McpSettings.model_fields, **ServeSettings.model_fields}


def options_given(context: typer.Context) -> Mapping[str, Any]:
    """The settings that stand on the command line, for commands that have no use for some of them."""
    return context.ensure_object(Options).settings


def limits_of(settings: Settings) -> Limits:
    from clip_qdrant.images.load import Limits

    return Limits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)


def open_embedder(settings: Settings) -> Embedder:
    """The embedder that `settings` name."""
    from clip_qdrant.embedder import ClipEmbedder

    with _told(
        "loading the model; the first use of one that carries no graphs prepares it, which takes up to a minute"
    ):
        return ClipEmbedder.load(
            settings.model,
            runtime=settings.runtime,
            device=settings.device,
            batch_size=settings.batch_size,
            limits=limits_of(settings),
            cache_dir=settings.cache_dir,
            compile=settings.compile,
        )


def open_client(settings: Settings, *, sharing: Sharing = "none") -> QdrantBase:
    """A client of the store that `settings` name. Whoever opens it closes it.

    `sharing` is how other programs may use an embedded store meanwhile: by a process of the store's own, or because
    this program answers for it. What is open that way already is joined in any case.
    """
    from clip_qdrant.store.connect import connect, is_folder

    if sharing == "host" and is_folder(settings.location):
        from clip_qdrant.store.edge.process.host import host_store

        return host_store(settings.location)
    return connect(
        settings.location,
        api_key=settings.api_key,
        timeout=settings.timeout,
        ca_file=settings.ca_file,
        prefer_grpc=settings.prefer_grpc,
        grpc_port=settings.grpc_port,
        shared=sharing == "process" and is_folder(settings.location),
    )


@contextlib.contextmanager
def open_collection(
    settings: Settings,
    *,
    patience: float = 2.0,
    stopped: Callable[[], bool] = lambda: False,
    texts: bool = False,
    sharing: Sharing = "none",
) -> Iterator[ImageCollection]:
    """The collection that `settings` name, its client closed at the end. `sharing` is as in `open_client`, the rest as
    in ImageCollection.

    `texts` says that texts will be embedded: their encoder opens while the store does.
    """
    embedder = open_embedder(settings)
    if texts:
        threading.Thread(target=_open_text_encoder, args=(embedder,), daemon=True).start()
    client = open_client(settings, sharing=sharing)
    from clip_qdrant.collection.images import ImageCollection

    try:
        with _told(f"waiting for the store at {plain(settings.shown_location)}"):
            images = ImageCollection(
                settings.collection,
                embedder,
                client,
                patience=patience,
                shard_number=settings.shard_number,
                replication_factor=settings.replication_factor,
                stopped=stopped,
                indexes=settings.indexes,
            )
        yield images
    finally:
        client.close()


@contextlib.contextmanager
def open_existing_collection(settings: Settings, *, texts: bool = False) -> Iterator[ImageCollection]:
    """The same for commands that only read. Raises CollectionNotFound: in Python a collection that is not there yet has
    no images, but here a name or a location was most likely mistyped.
    """
    with open_collection(settings, texts=texts) as images:
        if not images.exists():
            raise _explain_absence(images.client, settings)
        yield images


def _explain_absence(client: QdrantBase, settings: Settings) -> CollectionNotFound:
    from clip_qdrant.errors import CollectionNotFound, StoreError
    from clip_qdrant.store.calls import call

    where = plain(settings.shown_location)
    there = ""
    with contextlib.suppress(StoreError):  # a key for one collection may not list them
        listed = call(client.get_collections, what=f"listing the collections of {where}").collections
        names = ", ".join(sorted(plain(one.name) for one in listed))
        there = f"; there are: {names} (--collection chooses one)" if names else ", nor any other (--location)"
    return CollectionNotFound(
        f"there is no collection {plain(settings.collection)!r} yet in {where}{there}\n"
        "clip-qdrant ingest FOLDER makes it"
    )


def _open_text_encoder(embedder: Embedder) -> None:
    """An encoder opens with its first text: 0.25 s outside the interpreter lock, while qdrant_client is imported."""
    with contextlib.suppress(Exception):  # told when a text of the user's is embedded
        embedder.embed_texts(["a"])


@contextlib.contextmanager
def _told(message: str) -> Iterator[None]:
    """Says so on stderr if what is done within takes long."""
    timer = threading.Timer(_QUIET, print, [f"{message} ..."], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
