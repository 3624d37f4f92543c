"""Finds images that are stored and no longer listed, and says whether they may be deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qdrant_client import models

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant_ingestion.packed_texts import TextSet

__all__ = ["Missing", "find_missing", "scan_stored"]


@dataclass(frozen=True, slots=True)
class Missing:
    """How many images are missing from the listing; their `uris` if they may be deleted, else why not (`refused`)."""

    count: int
    uris: tuple[str, ...] = ()
    refused: str | None = None


def find_missing(
    collection: ImageCollection,
    source_name: str,
    seen: TextSet,
    *,
    max_delete: float,
    owns: Callable[[str], bool] | None = None,
    among: Collection[str] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Missing:
    """The stored images of a source that were not `seen` in its listing; with `among`, only those of these uris.

    An image belongs to a source if its payload says so, and to this run if `owns` says so. At most the share
    `max_delete` (0 to 1) of the collection, or of this run's images, may be deleted, and none after an empty listing.
    `tick` is called for each image looked at.
    """
    if not collection.exists():
        return Missing(0)
    # Somebody said of each of `among` that it is gone, and the collection may be small.
    least = int(among is not None and max_delete > 0)
    number = collection.count()
    most = max(_share(max_delete, number), least)
    uris: list[str] = []
    answered = count = 0
    for payload in scan_stored(collection, source_name, owns, among=among):
        tick()
        answered += 1
        if payload["uri"] not in seen:
            count += 1
            if count <= most:
                uris.append(payload["uri"])
    allowed = most if owns is None else max(_share(max_delete, answered), least)
    if count and not len(seen) and among is None:
        return Missing(count, (), f"the listing is empty, so none of the {count} stored images is deleted")
    if count > allowed:
        whole = "collection" if owns is None else "stored images of this part"
        return Missing(
            count,
            (),
            f"{count} stored images are no longer in the source, more than {max_delete:.0%} of the {whole} "
            f"({allowed}); none is deleted: look at the plan (--dry-run), then allow more (--max-delete)",
        )
    return Missing(count, tuple(uris))


def scan_stored(
    collection: ImageCollection,
    source_name: str,
    owns: Callable[[str], bool] | None,
    *,
    parts: Sequence[str] = ("uri",),
    among: Collection[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """The payloads of this run's images of a source; with `among`, only those of these uris."""
    payloads: Iterator[dict[str, Any]]
    if among is not None:
        stored = collection.writer.read_payloads(sorted(among)).values()
        payloads = (one for one in stored if (one.get("source") or {}).get("name") == source_name)
    else:
        name = models.FieldCondition(key="source.name", match=models.MatchValue(value=source_name))
        payloads = collection.writer.scan(models.Filter(must=[name]), parts=parts)
    for payload in payloads:
        if owns is None or owns(payload["uri"]):
            yield payload


def _share(share: float, number: int) -> int:
    return int(share * number + 1e-9)  # 0.29 * 100 is 28.999999999999996
