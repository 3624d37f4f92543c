"""Finds what a run would do, and stores nothing.

The listing and the collection tell nearly all of it. Two kinds of objects are read too, though not decoded: changed
ones as large as before, which may be the same bytes with another date, and new ones as large as one that is gone, which
may be that one under another name.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.unchanged import has_same_bytes
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion.options import Dedupe, IngestOptions
from clip_qdrant_ingestion.run.decisions import Action, Task, is_rewrite
from clip_qdrant_ingestion.run.missing import Stored, find_unseen
from clip_qdrant_ingestion.run.outcomes import Outcomes
from clip_qdrant_ingestion.run.planner import Planner
from clip_qdrant_ingestion.run.report import Plan
from clip_qdrant_ingestion.run.stages import Read, Stages
from clip_qdrant_ingestion.sources.places import are_gone
from clip_qdrant_ingestion.sources.protocol import Source

if TYPE_CHECKING:
    from clip_qdrant_ingestion.state.put_away import PutAway

__all__ = ["plan", "preview"]

_EXAMPLES = 20  # uris of each kind
_COMPARED = 100_000  # new objects that are remembered, to be compared with those that are gone


def plan(
    source: Source,
    collection: ImageCollection,
    *,
    limits: Limits | None = None,
    owns: Callable[[str], bool] | None = None,
    dedupe: Dedupe = "off",
    memory: PutAway | None = None,
    retry_failed: bool = False,
    patience: float = 60.0,
) -> Plan:
    """The plan of `ingest` with the same arguments; nothing is stored, not even what is bad.

    Images that cannot be used, and new near-duplicates, are found by the run alone. A new image with the bytes of one
    that stays counts as new, though the run will take over its vector.

    Raises SourceError if the source cannot be listed at all, StoreError if the collection cannot be reached.
    """
    options = IngestOptions(
        limits=limits or Limits(), owns=owns, dedupe=dedupe, retry_failed=retry_failed, patience=patience
    )
    return preview(source, collection, options, put_away=memory)


def preview(
    source: Source, collection: ImageCollection, options: IngestOptions, *, put_away: PutAway | None = None
) -> Plan:
    """The plan of a run, as `plan` describes it."""
    outcomes = Outcomes()
    planner = Planner(source, collection, outcomes, options=options, put_away=put_away, creates=False)
    reader = _Reader(Stages(source, collection, outcomes.tell, options=options), collection.embedder.fingerprint)
    counts: Counter[str] = Counter()
    examples: defaultdict[str, list[str]] = defaultdict(list)
    fresh: list[Task] = []

    def note(kind: str, uri: str) -> None:
        counts[kind] += 1
        if len(examples[kind]) < _EXAMPLES:
            examples[kind].append(uri)

    with ThreadPoolExecutor(source.reads_at_once, "plan") as pool:
        for page in planner.tasks():
            for task, kind in zip(page, pool.map(reader.kind, page), strict=True):
                if kind is not None:  # otherwise the stages have told
                    outcomes.count_fields(task.item.uri, task.left_out)
                if kind == "new" and len(fresh) < _COMPARED:
                    fresh.append(task)
                elif kind is not None:
                    note(kind, task.item.uri)
        gone, elsewhere = _find_gone(source, collection, planner, fresh, options) if planner.complete else ({}, {})
        lost = {**gone, **elsewhere}
        sizes, hashes = {size for size, _ in lost.values()}, {sha256 for _, sha256 in lost.values()}
        candidates = [task for task in fresh if task.item.size in sizes]
        read = dict(zip((task.item.uri for task in candidates), pool.map(reader.sha256, candidates), strict=True))
    for task in fresh:
        sha256 = read.get(task.item.uri, "")
        if sha256 is not None:
            note("renamed" if sha256 in hashes else "new", task.item.uri)
    found = frozenset(read.values())
    for uri in (*gone, *(uri for uri, (_, sha256) in elsewhere.items() if sha256 in found)):
        note("gone", uri)
    told = outcomes.counts()
    return Plan(
        **{name: counts[name] for name in ("new", "changed", "renamed", "described", "gone")},
        unchanged=told["skipped"],
        still_bad=told["still_bad"],
        still_duplicates=told["duplicates"],
        listed=len(planner.seen),
        complete=planner.complete,
        quarantined=tuple(outcomes.quarantined),
        passed_over=dict(planner.passed_over),
        fields_left_out=outcomes.fields_left_out(),
        examples={kind: tuple(uris) for kind, uris in examples.items()},
    )


class _Reader:
    """Reads what the listing does not tell, from several threads."""

    def __init__(self, stages: Stages, fingerprint: str) -> None:
        self._stages, self._fingerprint = stages, fingerprint

    def kind(self, task: Task) -> str | None:
        """new, described or changed; None for what needs nothing or cannot be read, of which the stages have told."""
        if task.stored is None:
            return "new"
        if is_rewrite(task):
            return "described"
        before = (task.stored.get("image") or {}).get("bytes")
        if task.action is Action.LOAD and task.item.size is not None and task.item.size != before:
            return "changed"
        done = self._stages.read(task)
        if isinstance(done, Read):
            sha256 = self._hash(done)
            return "described" if has_same_bytes(task.stored, sha256, fingerprint=self._fingerprint) else "changed"
        return None if done is None else "described"

    def sha256(self, task: Task) -> str | None:
        """The hash of an object; None if it cannot be read, of which the stages have told."""
        done = self._stages.read(task)
        return self._hash(done) if isinstance(done, Read) else None

    def _hash(self, read: Read) -> str:
        self._stages.release(read)
        return hashlib.sha256(read.data).hexdigest()


def _find_gone(
    source: Source, collection: ImageCollection, planner: Planner, fresh: Sequence[Task], options: IngestOptions
) -> tuple[Mapping[str, tuple[int, str]], Mapping[str, tuple[int, str]]]:
    """Size and hash, by uri, of the stored images that are gone or have moved to an image that is stored; and of those
    of other sources that are nowhere, as large as one of the `fresh` images, which may be that one."""
    gone: dict[str, tuple[int, str]] = {}
    elsewhere: dict[str, tuple[int, str]] = {}
    if not collection.exists():
        return gone, elsewhere
    sizes = {task.item.size for task in fresh}
    others: dict[str, tuple[Stored, bool]] = {}
    for image, has_copy in find_unseen(collection, source, planner.seen, owns=options.owns):
        if image.own:
            gone[image.uri] = (image.size, image.sha256)
        elif (has_copy or image.size in sizes) and len(others) < _COMPARED:
            others[image.uri] = (image, has_copy)
    for uri, is_missing in are_gone(list(others), source):
        if is_missing:
            image, has_copy = others[uri]
            (gone if has_copy else elsewhere)[uri] = (image.size, image.sha256)
    return gone, elsewhere
