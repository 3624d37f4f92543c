"""Duplicate marks: `duplicate_of` names an image that is nearly equal. Set right when that one changed or is gone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from qdrant_client import models

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import batches
from clip_qdrant.records import ImageRecord, add_stored_image, read_record
from clip_qdrant_ingestion.duplicates.index import DuplicateIndex

__all__ = ["update_marks"]

_FIRSTS_A_QUERY = 500
_PAYLOADS_A_WRITE = 500


def update_marks(
    collection: ImageCollection,
    firsts: Collection[str],
    *,
    missing: Collection[str] = (),
    index: DuplicateIndex | None = None,
) -> int:
    """Sets right the marks of all images whose `duplicate_of` is one of `firsts`; gives how many were wrong.

    An image that is near nothing in `index` any more loses its mark, and those that are near it get its uri. Without
    `index` they are compared with the firsts and with each other only. Images that are `missing` are left as they are.
    """
    updated = 0
    for some in batches(sorted(firsts), _FIRSTS_A_QUERY):
        marked = models.Filter(must=[models.FieldCondition(key="duplicate_of", match=models.MatchAny(any=some))])
        for payloads in batches(collection.writer.scan(marked), _PAYLOADS_A_WRITE):
            if index is None:
                index = DuplicateIndex()
                index.load(_hashes(collection, [uri for uri in firsts if uri not in missing]))
            records = [_record(payload, index) for payload in payloads if payload["uri"] not in missing]
            changed = [record for record in records if record is not None]
            collection.writer.write_payloads(changed)
            updated += len(changed)
    return updated


def _hashes(collection: ImageCollection, uris: Sequence[str]) -> Iterator[tuple[str, str]]:
    for uri, payload in collection.writer.read_payloads(uris).items():
        if payload.get("image") and "duplicate_of" not in payload:
            yield uri, payload["image"]["phash"]


def _record(payload: dict[str, Any], index: DuplicateIndex) -> ImageRecord | None:
    """What is to be stored instead; None where the mark is right."""
    first = index.find_first(payload["uri"], payload["image"]["phash"])
    if first == payload["duplicate_of"]:
        return None
    return add_stored_image(read_record(payload), {**payload, "duplicate_of": first})
