"""What is stored and no longer listed: found, and removed unless that would be more than was agreed to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from qdrant_client import models

from clip_qdrant.collection import ImageCollection
from clip_qdrant_ingestion.planner import Seen

__all__ = ["Gone", "find_gone"]


@dataclass(frozen=True, slots=True)
class Gone:
    """How many images are gone, their uris if they may be removed, and why they may not."""

    count: int
    uris: tuple[str, ...] = ()
    refused: str | None = None


def find_gone(
    collection: ImageCollection,
    source_name: str,
    seen: Seen,
    *,
    max_delete: float,
    owns: Callable[[str], bool] | None = None,
    among: Collection[str] | None = None,
) -> Gone:
    """The stored images of a source that were not `seen` in its listing; `among` these uris only, if given.

    An image is of a source if its payload says so. `owns` tells which of them this run answers for. No more than the
    share `max_delete` of the collection, 0 to 1, may be removed, and nothing after a listing that was empty.
    """
    if not collection.exists():
        return Gone(0)
    allowed = int(max_delete * collection.count() + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if among is not None and max_delete > 0:
        allowed = max(allowed, 1)  # somebody said of each that it is gone, and the collection may be small
    uris: list[str] = []
    count = 0
    for uri in _stored(collection, source_name, among):
        if (owns is None or owns(uri)) and uri not in seen:
            count += 1
            if count <= allowed:
                uris.append(uri)
    if count and not len(seen) and among is None:
        return Gone(count, (), f"the listing is empty, so none of the {count} stored images is deleted")
    if count > allowed:
        return Gone(
            count,
            (),
            f"{count} stored images are no longer in the source, more than {max_delete:.0%} of the collection "
            f"({allowed}); none is deleted: look at the plan (--dry-run), then allow more (--max-delete)",
        )
    return Gone(count, tuple(uris))


def _stored(collection: ImageCollection, source_name: str, among: Collection[str] | None) -> Iterator[str]:
    if among is not None:
        for uri, payload in collection.stored(sorted(among)).items():
            if (payload.get("source") or {}).get("name") == source_name:
                yield uri
        return
    of_source = models.Filter(
        must=[models.FieldCondition(key="source.name", match=models.MatchValue(value=source_name))]
    )
    for payload in collection.scan(of_source, parts=["uri"]):
        yield payload["uri"]
