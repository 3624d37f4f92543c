"""update_metadata: changes caption, date, place and metadata of stored images, which stays whatever their source says.

The images are neither read nor embedded. What was changed is kept in the payload a second time, as `edits`, so that the
next run of ingestion does not take it back, and still deletes the image when it is gone from its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from clip_qdrant.collection.unchanged import has_same_description
from clip_qdrant.errors import MetadataError, QueryError
from clip_qdrant.fields.names import join_path, split_path
from clip_qdrant.fields.types import METADATA_PREFIX, FieldType
from clip_qdrant.fields.values import same_json
from clip_qdrant.records import ImageRecord, add_stored_image, apply_edits, read_record
from clip_qdrant.uris import point_id

if TYPE_CHECKING:
    from clip_qdrant.collection.reader import CollectionReader
    from clip_qdrant.collection.writer import CollectionWriter

__all__ = ["check_names", "edit_payloads", "is_image", "read_selected", "update_metadata"]

_AT_ONCE = 1000


def update_metadata(
    reader: CollectionReader,
    writer: CollectionWriter,
    changes: Mapping[str, Any],
    *,
    ids: Mapping[str, str] | None,
    selection: models.Filter | None,
) -> int:
    """See ImageCollection.update_metadata. `ids` are the names that were given, by point id."""
    if not isinstance(changes, Mapping) or not changes:
        raise MetadataError(f"update_metadata takes the fields to change, such as {{'album': 'pets'}}, not {changes!r}")
    changes = {str(name).removeprefix(METADATA_PREFIX): value for name, value in changes.items()}
    check_names(changes, reader.description.payload_fields)
    changed = 0
    for payloads in read_selected(reader, ids=ids, selection=selection):
        changed += edit_payloads(writer, [(payload, changes) for payload in payloads])
    return changed


def check_names(names: Iterable[str], known: Mapping[str, FieldType]) -> None:
    """Raises MetadataError for the name of a field within another: `exif.iso` would become a key of its own."""
    for name in names:
        alone, nested = METADATA_PREFIX + join_path([name]), METADATA_PREFIX + name
        if nested != alone and nested in known and alone not in known:
            outer = split_path(name)[0]
            raise MetadataError(
                f"{name!r} is a field within {outer!r}: give {outer!r} whole, with all of its fields, as a dict"
            )


def edit_payloads(writer: CollectionWriter, edits: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> int:
    """Stores payloads with fields changed, None for one to take away; gives the number of those that were not so.

    All are checked before any is written.
    """
    records = []
    for payload, changes in edits:
        record = _edit(writer, payload, changes)
        if not has_same_description(record, payload) or not same_json(record.edits, payload.get("edits") or {}):
            records.append(record)
    writer.write_payloads(records)
    return len(records)


def read_selected(
    reader: CollectionReader, *, ids: Mapping[str, str] | None, selection: models.Filter | None
) -> Iterator[list[dict[str, Any]]]:
    """The payloads of images by point id, or of all that a filter selects, page by page in the order of their ids.

    Points that are no images of this package are passed over. Raises QueryError, before anything is given, if one of
    the ids is not there.
    """
    if ids is not None:
        there = {str(record.id) for record in reader.retrieve([*ids])}
        missing = [name for one, name in ids.items() if one not in there]
        if missing:
            raise QueryError(f"not stored are {len(missing)} of the images, the first {missing[0]}: nothing is changed")
        named = models.HasIdCondition(has_id=[*ids])
        selection = models.Filter(must=[named] if selection is None else [named, selection])
    offset = None
    while True:
        records, offset = reader.scroll(selection, offset, True, False, limit=_AT_ONCE)
        payloads = [dict(record.payload or {}) for record in records if is_image(record)]
        if payloads:
            yield payloads
        if offset is None:
            return


def _edit(writer: CollectionWriter, payload: Mapping[str, Any], changes: Mapping[str, Any]) -> ImageRecord:
    """The record of a payload with fields changed, as it is to be stored."""
    stored = read_record(payload)
    record = add_stored_image(writer.check(apply_edits(replace(stored, edits=dict(changes)))), payload)
    record = replace(apply_edits(replace(record, edits=_removed(changes))), edits={})
    now = {
        **record.metadata,
        "caption": record.caption,
        "taken_at": record.taken_at.isoformat() if record.taken_at else None,
        "location": asdict(record.location) if record.location else None,
    }
    edits = {name: None if value is None else now.get(name) for name, value in changes.items()}
    return replace(record, edits={**stored.edits, **edits})


def _removed(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None for name, value in changes.items() if value is None}


def is_image(record: models.Record) -> bool:
    """Whether a point is an image that this package stored; other programs may have put others beside them."""
    payload = record.payload or {}
    uri = payload.get("uri")
    return isinstance(uri, str) and bool(payload.get("image")) and point_id(uri) == str(record.id)
