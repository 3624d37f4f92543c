"""From settings to a worker: its source, collection, state file, options, and the cluster it may run on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clip_qdrant.cli import wiring
from clip_qdrant.cli.output import plain
from clip_qdrant.errors import ConfigError, SourceError
from clip_qdrant.uris import path_of
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.run.engine import Cluster
from clip_qdrant_ingestion.sources.open import kind_of_source, make_source
from clip_qdrant_ingestion.sources.options import SourceOptions
from clip_qdrant_ingestion.sources.share import Share
from clip_qdrant_ingestion.state.state import IngestState, default_state_path
from clip_qdrant_ingestion.worker.worker import Worker

if TYPE_CHECKING:
    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant_ingestion.settings import IngestSettings
    from clip_qdrant_ingestion.sources.protocol import Source
    from clip_qdrant_ingestion.worker.health import Health

__all__ = ["open_worker", "source_place"]


@contextlib.contextmanager
def open_worker(
    settings: IngestSettings,
    *,
    retry_failed: bool,
    noted: Mapping[str, str],
    stop: threading.Event,
    health: Health | None = None,
    remembers: bool = True,
    sharing: wiring.Sharing = "none",
) -> Iterator[Worker]:
    """The worker that `settings` describe, its store and its cluster closed at the end.

    `noted` goes to the state file; without `remembers` none is made. `health` is told of the model and the store.
    `sharing` is how other programs may use an embedded store meanwhile.
    """
    source = _open_source(settings)
    path: Path | str = default_state_path(settings.location, settings.cache_dir, settings.state)
    if not remembers and not Path(path).exists():
        path = ":memory:"  # looking makes no file
    with (
        _cluster(settings) as cluster,
        IngestState(path) as state,
        wiring.open_collection(settings, patience=settings.patience, stopped=stop.is_set, sharing=sharing) as images,
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
            "run one (docker compose up -d qdrant) and set --location http://localhost:6333"
        )
    from clip_qdrant_ingestion.ray.cluster import RayCluster

    opened = partial(_open_images, settings)
    with RayCluster(opened, address=settings.ray_address, embedders=settings.embedders) as cluster:
        yield cluster


def source_place(settings: IngestSettings) -> str:
    """Where the source is. Raises ConfigError if none is named, SourceError for a folder that is not there."""
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
        follow_symlinks=settings.follow_symlinks,
        uri_column=settings.uri_column,
        base=settings.uri_base,
        endpoint_url=settings.endpoint_url,
        object_metadata=settings.object_metadata,
        allow_private=settings.allow_private,
        patience=settings.patience,
    )
    return make_source(source_place(settings), options)


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
        name_dates=settings.name_dates,
        retry_failed=retry_failed,
        patience=settings.patience,
        bulk=settings.bulk,
    )


def _open_images(settings: IngestSettings) -> ImageCollection:
    """The collection in a process of a cluster."""
    from clip_qdrant.collection.images import ImageCollection

    client = wiring.open_client(settings)
    embedder = wiring.open_embedder(settings)
    return ImageCollection(settings.collection, embedder, client, patience=settings.patience, indexes=settings.indexes)
