"""From settings to what commands work with. Commands get their client, embedder and collection here and nowhere else.

Tests, and programs that bring their own embedder, replace `open_embedder`.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clip_qdrant.cli.output import plain

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant.embedder_protocol import Embedder
    from clip_qdrant.images.load import Limits
    from clip_qdrant.settings import Settings
    from clip_qdrant_ingestion.settings import IngestSettings

__all__ = ["Options", "limits_of", "open_client", "open_collection", "open_embedder", "options_given", "settings_of"]

_QUIET = 2.0  # seconds after which the user is told what takes so long


@dataclass(slots=True)
class Options:
    """The options that every command takes, as given."""

    settings: dict[str, Any] = field(default_factory=dict)
    config: Path | None = None
    debug: bool = False


def settings_of(context: typer.Context, given: Mapping[str, Any] | None = None) -> IngestSettings:
    """The settings in force for a command; `given` are options of its own that are settings too.

    They are those of all commands, since they share a settings file, and a name there that none knows is a mistake.
    """
    from clip_qdrant_ingestion.settings import IngestSettings

    options = context.ensure_object(Options)
    return IngestSettings.load({**options.settings, **(given or {})}, config=options.config)


def options_given(context: typer.Context) -> Mapping[str, Any]:
    """The settings that stand on the command line, for commands that have no use for some of them."""
    return context.ensure_object(Options).settings


def limits_of(settings: Settings) -> Limits:
    from clip_qdrant.images.load import Limits

    return Limits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)


def open_embedder(settings: Settings) -> Embedder:
    """The embedder that `settings` name."""
    from clip_qdrant.embedder import ClipEmbedder

    with _told("loading the model; its first use on a computer prepares it, which takes up to a minute"):
        return ClipEmbedder.load(
            settings.model,
            runtime=settings.runtime,
            device=settings.device,
            batch_size=settings.batch_size,
            limits=limits_of(settings),
            cache_dir=settings.cache_dir,
            compile=settings.compile,
        )


def open_client(settings: Settings) -> QdrantBase:
    """A client of the store that `settings` name. Whoever opens it closes it."""
    _import_qdrant_client()
    from clip_qdrant.store.connect import connect

    return connect(settings.location, api_key=settings.api_key, timeout=settings.timeout)


@contextlib.contextmanager
def open_collection(
    settings: Settings, *, patience: float = 2.0, stopped: Callable[[], bool] = lambda: False
) -> Iterator[ImageCollection]:
    """The collection that `settings` name, its client closed at the end. The rest is as in ImageCollection."""
    client = open_client(settings)  # first, for the sake of its quick import
    from clip_qdrant.collection.images import ImageCollection

    try:
        embedder = open_embedder(settings)
        with _told(f"waiting for the store at {plain(settings.shown_location)}"):
            images = ImageCollection(
                settings.collection,
                embedder,
                client,
                patience=patience,
                shard_number=settings.shard_number,
                replication_factor=settings.replication_factor,
                stopped=stopped,
            )
        yield images
    finally:
        client.close()


def _import_qdrant_client() -> None:
    """Imports qdrant_client in half the time (0.9 s otherwise): its 340 pydantic models are completed at first use.

    The package completes them all while it is imported. pydantic does the same for each at its first use, so nothing
    is lost; only a program that runs for a second or two notices the difference. The garbage collector, which would
    visit all these classes again and again, finds nothing in them and is told to leave them alone.
    """
    if "qdrant_client" in sys.modules:
        return
    from pydantic import BaseModel

    complete = BaseModel.__dict__["model_rebuild"]
    setattr(BaseModel, "model_rebuild", classmethod(lambda cls, **options: None))  # noqa: ARG005, B010  mypy minds =
    gc.disable()
    try:
        import qdrant_client  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
        setattr(BaseModel, "model_rebuild", complete)  # noqa: B010


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
