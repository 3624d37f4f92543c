"""Ingestion: brings a collection to the state of a source.

    report = ingest(FolderSource("photos"), collection)

The source is listed page by page, the collection is asked what it holds, and what is new or changed goes through the
stages. A batch is written whole or not at all, and ids come from uris, so a run that ends at any moment is continued
by running it again. One bad object is one quarantined row; a store or a source that does not answer ends the run.
What is gone from the source is deleted last, when all else is stored, and only if that was asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion.options import Dedupe, IngestOptions
from clip_qdrant_ingestion.run.engine import Cluster
from clip_qdrant_ingestion.run.extent import Extent
from clip_qdrant_ingestion.run.reconciler import Reconciler
from clip_qdrant_ingestion.run.report import Progress, Report
from clip_qdrant_ingestion.sources.protocol import Source

if TYPE_CHECKING:
    from clip_qdrant_ingestion.state.put_away import PutAway

__all__ = ["ingest"]


def ingest(
    source: Source,
    collection: ImageCollection,
    *,
    batch_size: int = 64,
    workers: int | None = None,
    readers: int | None = None,
    limits: Limits | None = None,
    folders: Collection[str] | None = None,
    removed: Collection[str] = (),
    delete: bool = False,
    max_delete: float = 0.1,
    owns: Callable[[str], bool] | None = None,
    dedupe: Dedupe = "off",
    tags: bool = True,
    name_dates: bool = False,
    memory: PutAway | None = None,
    retry_failed: bool = False,
    patience: float = 60.0,
    bulk: bool = False,
    cluster: Cluster | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Report:
    """Stores every image of a source that is new or changed since the last run.

    `workers` threads decode, by default as many as there are cores; `readers` read, by default as many as the source
    asks for; `batch_size` images are embedded at once. `folders` restricts the run to these folders of the source, and
    `removed` are uris that may be gone from them.

    With `delete` stored images that the source no longer has are removed, but not more than the share `max_delete`
    (0 to 1) of the collection, and only after the whole source was listed; `owns` tells which images are this run's.
    `dedupe` leaves out near-duplicates ("skip") or stores them with the uri of the first ("tag"). `tags` makes what a
    file says of itself (camera, title, keywords) metadata; `name_dates` takes the date of a photo that says none from
    its name (`IMG_20240131_235959.jpg`), for images that are read from then on. What `memory` has of bad objects is
    passed over until they change, or `retry_failed` is set. A read that fails for a passing reason is tried again for
    `patience` seconds.
    `bulk` switches the server's indexing off while the run lasts. A `cluster` carries out the stages elsewhere.

    `progress` is called on the calling thread, about ten times a second. Setting `stop`, or Ctrl-C in the main thread,
    finishes the batches in hand and returns a report with `interrupted` set; Ctrl-C a second time raises
    KeyboardInterrupt at once.

    Raises SourceError if the source cannot be listed at all or does not answer any more, StoreError if the collection
    cannot be reached; running it again goes on where it ended.
    """
    options = IngestOptions(
        batch_size=batch_size,
        workers=workers,
        readers=readers,
        limits=limits or Limits(),
        delete=delete,
        max_delete=max_delete,
        owns=owns,
        dedupe=dedupe,
        tags=tags,
        name_dates=name_dates,
        retry_failed=retry_failed,
        patience=patience,
        bulk=bulk,
    )
    looked_at = Extent(None if folders is None else frozenset(folders), frozenset(removed))
    run = Reconciler(
        source, collection, options, extent=looked_at, put_away=memory, cluster=cluster, progress=progress, stop=stop
    )
    return run.run()
