"""Finds images that are stored and no longer where they were, and says whether they may be deleted.

An image has moved if its bytes are stored under another name too, which was listed, and nothing is at its old place any
more, whichever source it came from. To delete the old point of such an image loses nothing, so it needs no brake. All
others are gone from the source; at most a share of the collection, or a few images, may be deleted in one run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from qdrant_client import models

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import batches
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.sources.places import are_gone, is_gone, is_local
from clip_qdrant_ingestion.sources.protocol import Source
from clip_qdrant_ingestion.sources.tree.spool import Spool

__all__ = ["SMALL", "Missing", "Stored", "Unseen", "find_missing", "find_unseen"]

SMALL = 10  # images: so few may always be deleted, as long as they are no more than half of the collection
_AT_ONCE = 500
_FEW_OTHERS = 100_000  # images of other sources that are looked through, whatever the source itself has
_ASKED = 10_000  # images elsewhere whose place is asked for by a request, in one run


@dataclass(frozen=True, slots=True)
class Missing:
    """How many stored images are missing, and the `uris` that may be deleted; `refused` says why others may not."""

    count: int
    uris: tuple[str, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of one image. `own`: it came from the source at hand, and is in this worker's share of it."""

    uri: str
    sha256: str
    size: int
    own: bool


class Unseen:
    """The stored images that were not seen, and by hash those that were; see `find_unseen`."""

    def __init__(self) -> None:
        self.own = 0  # images of the source, seen and unseen
        self._hashes = TextSet()
        self._rows = Spool()

    def note_seen(self, image: Stored) -> None:
        self._hashes.add(image.sha256)

    def append(self, image: Stored) -> None:
        self._rows.append((image.uri, image.sha256, image.size, image.own))

    def __iter__(self) -> Iterator[tuple[Stored, bool]]:
        """Each once, and whether its bytes are stored under a name that was seen. May be asked for once."""
        rows = (Stored(*row) for row in self._rows)
        while some := list(islice(rows, _AT_ONCE)):
            yield from zip(some, self._hashes.contain([one.sha256 for one in some]), strict=True)


def find_missing(
    collection: ImageCollection,
    source: Source,
    seen: TextSet,
    *,
    options: IngestOptions,
    listed_any: bool = True,
    among: Collection[str] | None = None,
    moved: Collection[str] = (),
    tick: Callable[[], None] = lambda: None,
) -> Missing:
    """The stored images that are gone from a source, or have moved to it; with `among`, only those of these uris.

    `seen` are the uris of its listing, complete but for the images of other workers, and `listed_any` says whether
    there were any, those of others among them. `moved` are known to be gone from their places, their bytes being stored
    anew. An image belongs to a source if its payload says so, or if it lies below it and is nowhere else; and to this
    run if `options.owns` says so. After an empty listing nothing may be deleted. `tick` is called now and then.
    """
    if not collection.exists():
        return Missing(0)
    if among is not None:
        return _find_among(collection, source, seen, options, among, moved)
    unseen = find_unseen(collection, source, seen, owns=options.owns, tick=tick)
    number = collection.count()
    allowed = _share(options.max_delete, number if options.owns is None else unseen.own, number)
    gone: list[str] = []
    old: list[str] = []
    elsewhere: list[str] = []
    count = asked = 0
    for image, has_copy in unseen:
        tick()
        if image.uri in moved or (image.own and has_copy and is_gone_if_local(image.uri, source)):
            old.append(image.uri)
        elif has_copy and not image.own and (is_local(image.uri) or (options.delete and asked < _ASKED)):
            elsewhere.append(image.uri)
            asked += not is_local(image.uri)
        elif image.own or (_lies_below(image.uri, source, options.owns) and is_gone(image.uri, source)):
            count += 1
            if count <= allowed:
                gone.append(image.uri)
    for uris in batches(elsewhere, _AT_ONCE):
        tick()
        old += [uri for uri, is_missing in are_gone(uris, source) if is_missing]
    refused = None
    if count and not listed_any:
        refused = f"the listing is empty, so none of the {count} stored images is deleted"
    elif count > allowed:
        refused = _refusal(count, allowed, options)
    return Missing(count + len(old), (*old, *(gone if refused is None else ())), refused)


def find_unseen(
    collection: ImageCollection,
    source: Source,
    seen: TextSet,
    *,
    owns: Callable[[str], bool] | None,
    tick: Callable[[], None] = lambda: None,
) -> Unseen:
    """The stored images of a source, and of others, that are not among those `seen`.

    Images that no source owns, such as those that were added in Python, are left out. Of other sources all are looked
    at, unless these are many more than the source has: then those of the same bytes as one that was seen.
    """
    unseen = Unseen()
    others = _of_source(source.name, others=True)
    number = collection.count(others)
    hashes: list[str] = []

    def sort(payloads: Iterator[dict[str, Any]], *, own: bool) -> Iterator[Stored]:
        """Keeps what was not seen; gives the rest."""
        told = _tell(payloads, tick)
        while some := list(islice(told, _AT_ONCE)):
            known = seen.contain([payload["uri"] for payload in some])
            for payload, is_seen in zip(some, known, strict=True):
                image = payload.get("image") or {}
                mine = owns is None or owns(payload["uri"])
                stored = Stored(payload["uri"], image.get("sha256", ""), image.get("bytes", -1), own and mine)
                unseen.own += stored.own
                if is_seen:
                    unseen.note_seen(stored)
                    yield stored
                else:
                    unseen.append(stored)

    parts = ["uri", "image.sha256", "image.bytes"]
    looks_through = number <= _FEW_OTHERS
    for stored in sort(collection.writer.scan(_of_source(source.name), parts=parts), own=True):
        if number and not looks_through:
            hashes.append(stored.sha256)
            if len(hashes) == _AT_ONCE:
                _sort_all(sort(_same_bytes(collection, others, hashes, parts), own=False))
                hashes = []
    if looks_through and number:
        _sort_all(sort(collection.writer.scan(others, parts=parts), own=False))
    elif hashes:
        _sort_all(sort(_same_bytes(collection, others, hashes, parts), own=False))
    return unseen


def is_gone_if_local(uri: str, source: Source) -> bool:
    """Of a local file whether it is not there; of others the listing that lacks them is enough."""
    return not is_local(uri) or is_gone(uri, source) is not False


def _find_among(
    collection: ImageCollection,
    source: Source,
    seen: TextSet,
    options: IngestOptions,
    among: Collection[str],
    moved: Collection[str],
) -> Missing:
    """Somebody said of each of `among` that it is gone, and the collection may be small: one may be deleted."""
    stored = collection.writer.read_payloads(sorted({*among, *moved}))
    own: list[str] = []
    old: list[str] = []
    for uri, payload in stored.items():
        name = (payload.get("source") or {}).get("name")
        if name is None or uri in seen or not (options.owns is None or options.owns(uri)):
            continue
        if uri in moved:
            old.append(uri)
        elif name == source.name:
            own.append(uri)
    number = collection.count()
    part = number if options.owns is None else len(own)
    allowed = max(_share(options.max_delete, part, number), int(options.max_delete > 0))
    refused = _refusal(len(own), allowed, options) if len(own) > allowed else None
    return Missing(len(own) + len(old), (*old, *(own if refused is None else ())), refused)


def _refusal(count: int, allowed: int, options: IngestOptions) -> str:
    whole = "collection" if options.owns is None else "stored images of this part"
    return (
        f"{count} stored images are no longer in the source, more than {options.max_delete:.0%} of the {whole} "
        f"({allowed}); none of them is deleted: look at the plan (--dry-run), then allow more (--max-delete)"
    )


def _share(share: float, part: int, number: int) -> int:
    """How many of `part` images may be deleted, from a collection of `number`; all parts together no more than one."""
    if not share or not number:
        return 0
    few = min(SMALL, number // 2) * part // number
    return max(int(share * part + 1e-9), few)  # 0.29 * 100 is 28.999999999999996


def _of_source(name: str, *, others: bool = False) -> models.Filter:
    """The images of a source; with `others`, those of any other source."""
    condition = models.FieldCondition(key="source.name", match=models.MatchValue(value=name))
    if not others:
        return models.Filter(must=[condition])
    return models.Filter(must_not=[condition, models.IsEmptyCondition(is_empty=models.PayloadField(key="source.name"))])


def _same_bytes(
    collection: ImageCollection, where: models.Filter, hashes: Sequence[str], parts: Sequence[str]
) -> Iterator[dict[str, Any]]:
    same = models.FieldCondition(key="image.sha256", match=models.MatchAny(any=list(hashes)))
    return collection.writer.scan(models.Filter(must=[same], must_not=where.must_not), parts=parts)


def _tell(payloads: Iterator[dict[str, Any]], tick: Callable[[], None]) -> Iterator[dict[str, Any]]:
    for payload in payloads:
        tick()
        yield payload


def _sort_all(images: Iterator[Stored]) -> None:
    for _ in images:
        pass


def _lies_below(uri: str, source: Source, owns: Callable[[str], bool] | None) -> bool:
    """Whether a local file lies in the folder that the source is, and is in this worker's share."""
    return is_local(uri) and uri.startswith(f"{source.name.rstrip('/')}/") and (owns is None or owns(uri))
