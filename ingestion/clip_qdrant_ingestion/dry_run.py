"""What a run would do, found without storing anything.

Listing and collection tell nearly all of it. Only whether a new object is one that was renamed takes reading: new
objects as large as one that is gone are read and compared by hash.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial

from qdrant_client import models

from clip_qdrant.collection import ImageCollection
from clip_qdrant.errors import ClipQdrantError
from clip_qdrant.images import Limits
from clip_qdrant_ingestion.faults import Retries
from clip_qdrant_ingestion.planner import Planner, Seen
from clip_qdrant_ingestion.report import Plan
from clip_qdrant_ingestion.sources.source import Source, SourceObject
from clip_qdrant_ingestion.tally import Memory, Tally
from clip_qdrant_ingestion.tasks import Action, Task

__all__ = ["plan"]

_EXAMPLES = 20  # uris of each kind
_COMPARED = 100_000  # new objects that are remembered, to be compared with those that are gone


def plan(
    source: Source,
    collection: ImageCollection,
    *,
    limits: Limits | None = None,
    folders: Collection[str] | None = None,
    owns: Callable[[str], bool] | None = None,
    memory: Memory | None = None,
    retry_failed: bool = False,
    patience: float = 60.0,
) -> Plan:
    """The plan of `ingest` with the same arguments; nothing is stored, not even what is bad.

    Raises SourceError if the source cannot be listed at all, StoreError if the collection cannot be reached.
    """
    tally = Tally()
    known = None if memory is None or retry_failed else memory.known
    planner = Planner(source, collection, tally, put_away=known, creates=False)
    counts: Counter[str] = Counter()
    examples: defaultdict[str, list[str]] = defaultdict(list)
    fresh: list[SourceObject] = []

    def note(kind: str, uri: str) -> None:
        counts[kind] += 1
        if len(examples[kind]) < _EXAMPLES:
            examples[kind].append(uri)

    for page in planner.tasks(folders):
        for task in page:
            kind = _kind(task)
            if kind == "new" and len(fresh) < _COMPARED:
                fresh.append(task.item)
            else:
                note(kind, task.item.uri)
    gone = _gone(collection, source.name, planner.seen, owns) if planner.complete else {}
    renamed = _renamed(source, fresh, gone, limits or Limits(), Retries(patience=patience, stop=threading.Event()))
    for item in fresh:
        note("renamed" if item.uri in renamed else "new", item.uri)
    for uri in gone:
        note("gone", uri)
    told = tally.counts()
    return Plan(
        **{name: counts[name] for name in ("new", "changed", "renamed", "described", "gone")},
        unchanged=told["skipped"],
        still_bad=told["still_bad"],
        still_duplicates=told["duplicates"],
        listed=len(planner.seen),
        complete=planner.complete,
        quarantined=tuple(tally.quarantined),
        examples={kind: tuple(uris) for kind, uris in examples.items()},
    )


def _kind(task: Task) -> str:
    if task.stored is None:
        return "new"
    return "described" if task.action is Action.REWRITE else "changed"


def _gone(
    collection: ImageCollection, source_name: str, seen: Seen, owns: Callable[[str], bool] | None
) -> dict[str, tuple[int, str]]:
    """Size and hash of the stored images of a source that were not seen in its listing, by uri."""
    of_source = models.Filter(
        must=[models.FieldCondition(key="source.name", match=models.MatchValue(value=source_name))]
    )
    found = {}
    for payload in collection.scan(of_source, parts=["uri", "image.bytes", "image.sha256"]):
        uri, image = payload["uri"], payload.get("image") or {}
        if uri not in seen and (owns is None or owns(uri)):
            found[uri] = (image.get("bytes", -1), image.get("sha256", ""))
    return found


def _renamed(
    source: Source,
    fresh: Sequence[SourceObject],
    gone: dict[str, tuple[int, str]],
    limits: Limits,
    retries: Retries,
) -> set[str]:
    """The uris of the new objects whose bytes are those of one that is gone."""
    sizes, hashes = {size for size, _ in gone.values()}, {sha256 for _, sha256 in gone.values()}
    found = set()
    for item in fresh:
        if item.size not in sizes:
            continue
        try:
            data = item.content if item.content is not None else retries(partial(source.read, item, limits=limits))
        except ClipQdrantError:  # the run will tell why
            continue
        if hashlib.sha256(data).hexdigest() in hashes:
            found.add(item.uri)
    return found
