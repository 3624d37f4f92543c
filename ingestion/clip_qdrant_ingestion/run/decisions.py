"""Decides what a listed image needs, given what the collection holds of it: nothing, a new payload, or to be read.

A payload says in `source.name` which source described the image. That source may take its words back. Any other, such
as a run over a folder further up or down, may only add to them and change them. So runs over overlapping folders come
to rest instead of undoing each other.

What the image itself tells, by the tags in its file and the headers of its object, ranks below what is said about it.
It is stored a second time beside the image, so that a payload can be written anew without reading the image. What
somebody changed in the collection itself ranks above both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from clip_qdrant.collection.standard_fields import fill_standard_fields
from clip_qdrant.collection.unchanged import has_same_description
from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.dates import join_dates
from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.values import same_json
from clip_qdrant.records import ImageRecord, SourceInfo, add_stored_image, apply_edits, read_edits, read_said
from clip_qdrant_ingestion.sources.protocol import Description, SourceObject
from clip_qdrant_ingestion.versions import is_same_version

__all__ = [
    "Action",
    "Task",
    "add_description",
    "complete_record",
    "decide",
    "describe_image",
    "is_rewrite",
    "keep_consistent",
    "make_record",
    "recall_description",
]


class Action(Enum):
    """SKIP: as stored. REWRITE: its bytes are the same, caption, metadata or source are not. LOAD: read it."""

    SKIP = "skip"
    REWRITE = "rewrite"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Task:
    """An image to work on. `record` is what is to be stored; what the image itself tells is added later."""

    item: SourceObject
    record: ImageRecord
    stored: Mapping[str, Any] | None
    action: Action
    left_out: tuple[MetadataError, ...] = ()  # fields that cannot be stored


def describe_image(tags: Mapping[str, Any], headers: Mapping[str, Any]) -> Description:
    """What an image itself tells: the tags of its file and, over them, the headers of its object."""
    metadata = {**tags, **headers}
    return Description(metadata.pop("caption", None), metadata)


def recall_description(stored: Mapping[str, Any]) -> Description:
    """What the image itself told when it was stored."""
    tags, headers = (stored.get("image") or {}).get("tags"), (stored.get("source") or {}).get("metadata")
    return describe_image(tags or {}, headers or {})


def add_description(
    record: ImageRecord, found: Description, *, left_out: list[MetadataError] | None = None
) -> ImageRecord:
    """The record with what the image itself tells, where nothing else is said.

    A date or place that cannot be read is left out, and its error added to `left_out`.
    """
    left_out = [] if left_out is None else left_out
    own = fill_standard_fields(ImageRecord(record.uri, found.caption, found.metadata), left_out=left_out)
    told = replace(
        record,
        caption=record.caption or own.caption,
        taken_at=join_dates(record.taken_at, own.taken_at),
        location=record.location or own.location,
        metadata={**own.metadata, **record.metadata},
    )
    gone = {name: None for name, value in record.edits.items() if value is None}
    return replace(apply_edits(replace(told, edits=gone)), edits=record.edits)


def make_record(item: SourceObject, said: Description, stored: Mapping[str, Any] | None, *, source: str) -> ImageRecord:
    """The record to store for an image that the source called `source` describes as `said`."""
    owner: str | None = source
    description, edits = said, read_edits(stored or {})
    if stored is not None:
        theirs = (stored.get("source") or {}).get("name")
        own = recall_description(stored)
        metadata = {
            name: value
            for name, value in read_said(stored).items()
            if name not in edits and (name not in own.metadata or not same_json(own.metadata[name], value))
        }
        caption = stored.get("caption")
        there = Description(None if "caption" in edits or caption == own.caption else caption, metadata)
        if said.partial:  # what is missing may be what could not be read
            owner, description = theirs, there
        elif theirs != source:
            description = said.over(there)
            owner = source if description == said else theirs
    return apply_edits(
        ImageRecord(
            uri=item.uri,
            caption=description.caption,
            metadata=description.metadata,
            source=SourceInfo(owner, etag=item.etag, size=item.size, mtime=item.mtime),
            edits=edits,
        )
    )


def decide(
    record: ImageRecord,
    stored: Mapping[str, Any] | None,
    *,
    fingerprint: str,
    fit: Callable[[ImageRecord], ImageRecord],
) -> Action:
    """What an image needs, from its listing alone. `record` must be normalised by `CollectionWriter.check`.

    `fit` leaves out of a record what cannot be stored: so may some of what the image itself told.
    """
    if stored is None or stored.get("fingerprint") != fingerprint or not stored.get("image"):
        return Action.LOAD
    if record.source is None or not is_same_version(record.source, stored.get("source") or {}):
        return Action.LOAD
    whole = add_description(record, recall_description(stored))
    same = has_same_description(whole, stored) or has_same_description(fit(whole), stored)
    return Action.SKIP if same else Action.REWRITE


def complete_record(record: ImageRecord, stored: Mapping[str, Any]) -> ImageRecord:
    """The record to store for an image whose bytes are those of `stored`."""
    headers = (stored.get("source") or {}).get("metadata") or {}
    if record.source is not None and not record.source.metadata and headers:
        record = replace(record, source=replace(record.source, metadata=headers))
    return add_stored_image(add_description(record, recall_description(stored)), stored)


def is_rewrite(task: Task) -> bool:
    """Whether nothing but the payload is to be written, and the listing has told all there is to know."""
    return task.action is Action.REWRITE and task.item.etag is None


def keep_consistent(tasks: Sequence[Task], schema: Schema) -> list[Task]:
    """The tasks with metadata that can be stored together; a field whose values disagree has the type of most.

    All at once, so that a type is inferred from all values at hand: the first thirty may be dates, the next a word.
    """
    extended = schema.extend([task.record.metadata for task in tasks], lenient=True)
    if extended.fields == schema.fields:
        return list(tasks)
    return [_fit(task, extended) for task in tasks]


def _fit(task: Task, schema: Schema) -> Task:
    """The task with metadata that fits the fields: what was checked before was checked without the new ones."""
    left_out = [*task.left_out]
    metadata = schema.normalise(task.record.metadata, uri=task.record.uri, left_out=left_out)
    return replace(task, record=replace(task.record, metadata=metadata), left_out=tuple(left_out))
