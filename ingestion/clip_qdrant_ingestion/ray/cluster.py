"""The stages on the machines of a Ray cluster, for a collection on a Qdrant server.

    def open_photos() -> ImageCollection:
        return ImageCollection("photos", ClipEmbedder.load(), connect("http://qdrant:6333"), patience=120)

    with RayCluster(open_photos, address="auto") as cluster:
        report = ingest(BucketSource("s3://photos"), open_photos(), cluster=cluster)

Planning and the report stay in this process, the driver. It hands out chunks of tasks, a few more than the cluster can
work on, and keeps each until the outcomes of all its objects have come back. So whatever process dies, nothing is lost:
Ray does again what it was doing, and what has not come back after all is handed out again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from types import TracebackType

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ConfigError, MissingExtra, first_line
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.run.engine import Engine
from clip_qdrant_ingestion.run.stages import DuplicateFinder, ObjectOutcome
from clip_qdrant_ingestion.sources.protocol import Source

__all__ = ["RayCluster"]


class RayCluster:
    """A `Cluster`: a Ray cluster that is there, or one on this machine.

    `open_collection` is sent to the workers, each of which opens the collection for itself; it must be on a server, and
    its embedder the one of the collection given to `ingest`. `embedders` are as many actors, each with a share of
    `gpus_per_embedder` of a GPU: by default one for each GPU, or one for each machine where there is none. `address` is
    one that `ray.init` takes; None means the cluster this process is connected to, that of RAY_ADDRESS, or a new one.

    Leaving the context, or `close`, disconnects from a cluster that this object connected to, and ends a new one.
    Raises MissingExtra without Ray, ConfigError for an address where there is none.
    """

    def __init__(
        self,
        open_collection: Callable[[], ImageCollection],
        *,
        embedders: int | None = None,
        gpus_per_embedder: float | None = None,
        address: str | None = None,
    ) -> None:
        if embedders is not None and embedders < 1:
            raise ConfigError(f"embedders must be at least 1, not {embedders}")
        if gpus_per_embedder is not None and gpus_per_embedder < 0:
            raise ConfigError(f"gpus_per_embedder must be 0 or more, not {gpus_per_embedder}")
        self._open_collection = open_collection
        self._connected = _connect(address)
        from clip_qdrant_ingestion.ray.board import machines, resources

        gpus = resources().get("GPU", 0.0)
        self._gpus = gpus_per_embedder if gpus_per_embedder is not None else float(gpus >= 1)
        if self._gpus > gpus:
            self.close()
            raise ConfigError(f"gpus_per_embedder is {self._gpus:g}, but the Ray cluster has {gpus:g} GPUs")
        self._embedders = embedders or max(1, int(gpus / self._gpus) if self._gpus else machines())

    def engine(
        self,
        source: Source,
        tell: Callable[[ObjectOutcome], None],
        *,
        options: IngestOptions,
        duplicates: DuplicateFinder | None,
        stop: threading.Event,
        tick: Callable[[], None],
    ) -> Engine:
        """An engine for one run; its chunks are of `options.batch_size` images.

        Raises ConfigError for a source, or a way to open the collection, that cannot be sent to other processes.
        """
        from ray import cloudpickle

        from clip_qdrant_ingestion.ray.dataset import Embedders
        from clip_qdrant_ingestion.ray.engine import RayEngine

        for what in (source, self._open_collection):
            try:
                cloudpickle.dumps(what)  # type: ignore[no-untyped-call]  # Ray's has no annotations
            except Exception as error:
                raise ConfigError(
                    f"{what!r} cannot be sent to the workers of a Ray cluster, since it cannot be pickled: {error}"
                ) from error
        return RayEngine(
            source,
            self._open_collection,
            tell,
            options=options,
            duplicates=duplicates,
            stop=stop,
            tick=tick,
            embedders=Embedders(self._embedders, self._gpus),
        )

    def close(self) -> None:
        """Disconnects, if this object connected."""
        if self._connected:
            import ray

            self._connected = False
            ray.shutdown()

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(address: str | None) -> bool:
    """Connects this process to a Ray cluster; False if it was connected before."""
    # The C++ part prints an error for each pool of actors that may be started anew, as those of Ray Data all are.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import pyarrow as _  # noqa: F401
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "a Ray cluster") from error
    if ray.is_initialized():
        return False
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"there is no Ray cluster at {address!r} ({first_line(error)})") from error
    return True
