"""The stages an image goes through: read, decode, embed, write. Each takes what the one before gave.

Whichever engine runs them tells of each object exactly once, by an ObjectOutcome: how it is stored, or as what it was
put away.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.unchanged import has_same_bytes
from clip_qdrant.embedder_protocol import find_needed_side
from clip_qdrant.errors import ImageTooLarge, MetadataError, StoreError, StoreLocked, StoreUnavailable
from clip_qdrant.fields.types import METADATA_PREFIX, FieldType
from clip_qdrant.images.load import load_image
from clip_qdrant.images.metadata.file_names import read_name_date
from clip_qdrant.records import ImageRecord, add_image
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.run.channel import Budget
from clip_qdrant_ingestion.run.decisions import (
    Action,
    Task,
    add_description,
    complete_record,
    decide,
    describe_image,
)
from clip_qdrant_ingestion.run.faults import Retries, Stopped, bisect_work, quarantine
from clip_qdrant_ingestion.run.report import Duplicate, Quarantined
from clip_qdrant_ingestion.sources.places import are_gone, has_many_places, place_of
from clip_qdrant_ingestion.sources.protocol import Description, Source, SourceObject
from clip_qdrant_ingestion.sources.text_values import type_texts
from clip_qdrant_ingestion.versions import is_same_version

__all__ = ["Decoded", "DuplicateFinder", "Embedded", "ObjectOutcome", "Read", "Stages", "metadata_types"]

_READ_BYTES = 128 * 1024 * 1024  # of images that are being read, or wait to be decoded
_LEAST = 1024 * 1024  # that is reserved for a read, whatever size is told
_MORE = 8  # times as much is reserved when that was too little
_UNKNOWN_SIZE = 16 * 1024 * 1024  # what an object whose size nobody knows is taken for, before one was read
_PIXEL_BYTES = 384 * 1024 * 1024  # decoded at once, by all threads

Kind = Literal["added", "updated", "renamed", "copied", "payload_updated", "skipped"]


@dataclass(frozen=True, slots=True)
class ObjectOutcome:
    """What became of one object: how it is stored, or as what it was put away, now or before.

    `moved_from` is the uri of a renamed image under its old name.
    """

    uri: str
    what: Kind | Quarantined | Duplicate
    moved_from: str | None = None
    left_out: tuple[MetadataError, ...] = ()  # fields that cannot be stored


@dataclass(frozen=True, slots=True)
class Read:
    """A task with the bytes of its image, of which `held` are taken from the budget until they are decoded."""

    task: Task
    data: bytes = field(repr=False)
    held: int = 0


@dataclass(frozen=True, slots=True)
class Decoded:
    """A task with its whole record, and the pixels for the embedder, uint8 (S, S, 3)."""

    task: Task
    pixels: np.ndarray = field(repr=False)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A task with its vector, float32 (dim,), and what it counts as; `moved_from` as in ObjectOutcome."""

    task: Task
    vector: np.ndarray = field(repr=False)
    kind: Kind = "added"
    moved_from: str | None = None


class DuplicateFinder(Protocol):
    """Finds near-duplicates (`duplicates.index.DuplicateIndex`)."""

    def find_first(self, uri: str, phash: str) -> str | None:
        """The uri of the first image that is nearly equal, if there is another; else this one is remembered."""


class Stages:
    """What is done with one object, or one batch. Every method may be called from several threads.

    `duplicates` finds near-duplicates; without it nothing is compared.
    """

    def __init__(
        self,
        source: Source,
        collection: ImageCollection,
        tell: Callable[[ObjectOutcome], None],
        *,
        options: IngestOptions,
        stop: threading.Event | None = None,
        duplicates: DuplicateFinder | None = None,
    ) -> None:
        self._source, self._collection, self._tell, self._duplicates = source, collection, tell, duplicates
        self._options = options
        stop = stop or threading.Event()
        # One for each: a look may cost nothing, and tell nothing of whether the source answers.
        many = has_many_places(source)
        self._reading, self._looking = (
            Retries(patience=options.patience, stop=stop, many_places=many) for _ in range(2)
        )
        self._place_of = place_of if many else lambda uri: ""  # noqa: ARG005
        self._read_bytes, self._pixel_bytes = Budget(_READ_BYTES), Budget(_PIXEL_BYTES)
        self._unknown_size = _UNKNOWN_SIZE
        self._met = TextSet()  # hashes of the images of this run
        self._lock = threading.Lock()
        self._fingerprint = collection.embedder.fingerprint

    def halt(self) -> None:
        """What waits to be tried again, or for room, is given up."""
        self._read_bytes.halt()
        self._reading.halt()
        self._looking.halt()

    def check_answers(self) -> None:
        """At the end of a run: raises SourceUnavailable if no place of the source has answered."""
        self._looking.check_answers()
        self._reading.check_answers()

    def read(self, task: Task) -> Read | Task | None:
        """The bytes of an image; the task, if only its payload is to be written; None if nothing is left to do."""
        with _QuarantineErrors(self._put_away, task.item):
            if task.item.content is not None:
                return Read(task, task.item.content)
            task = self._look(task)
            if task.action is Action.SKIP:
                self._tell(ObjectOutcome(task.item.uri, "skipped", left_out=task.left_out))
                return None
            if task.action is Action.REWRITE:
                return task
            return self._fetch(task)
        return None

    def release(self, read: Read) -> None:
        """Gives the bytes of an image back that is not decoded."""
        self._read_bytes.release(read.held)

    def _fetch(self, task: Task) -> Read:
        """Reads an image, never more of it than was reserved: its size may be told wrong, or not at all.

        One that turns out to be larger is read again, when there is more room for it.
        """
        item, limits, place = task.item, self._options.limits, self._place_of(task.item.uri)
        room = max(self._unknown_size if item.size is None else item.size, _LEAST)
        while True:
            held = self._read_bytes.acquire(room)
            most = limits.max_bytes if held == _READ_BYTES else min(held, limits.max_bytes)
            within = replace(limits, max_bytes=most)
            data = None
            try:
                data = self._reading(lambda: self._source.read(item, limits=within), place)  # noqa: B023  called at once
            except ImageTooLarge:
                if most == limits.max_bytes:
                    raise
            finally:
                if data is None:
                    self._read_bytes.release(held)
            if data is not None:
                if item.size is None:
                    self._learn_size(len(data))
                takes = max(len(data), min(item.size or 0, held))
                return Read(task, data, self._read_bytes.correct(held, takes))
            room *= _MORE

    def _learn_size(self, size: int) -> None:
        """Takes the next object whose size is not known for four times the mean of those so far."""
        with self._lock:
            self._unknown_size += (4 * size - self._unknown_size) // 8

    def _look(self, task: Task) -> Task:
        """The task with what a request for its object alone tells."""
        item = self._looking(lambda: self._source.look(task.item), self._place_of(task.item.uri))
        if item is task.item:
            return task
        source = task.record.source
        assert source is not None
        headers, left_out = self._read_headers(task, item)
        source = replace(source, etag=item.etag, size=item.size, mtime=item.mtime, metadata=headers)
        task = replace(
            task,
            item=item,
            record=replace(task.record, source=source),
            left_out=(*task.left_out, *left_out),
        )
        if task.stored is None:
            return task
        stored = {**task.stored, "source": {**(task.stored.get("source") or {}), "metadata": source.metadata}}
        task = replace(task, stored=stored)
        if task.action is Action.LOAD and not is_same_version(item, stored["source"]):
            return task
        action = decide(task.record, stored, fingerprint=self._fingerprint, fit=self._fit)
        if action is Action.SKIP and task.action is Action.REWRITE:  # the date of the object at least is new
            action = Action.REWRITE
        return replace(task, action=action)

    def _fit(self, record: ImageRecord) -> ImageRecord:
        return self._collection.writer.check(record, left_out=[])

    def _read_headers(self, task: Task, item: SourceObject) -> tuple[dict[str, object], tuple[MetadataError, ...]]:
        """The metadata, and the caption, that the look at an object added to what its listing says."""
        before = task.item.said
        named = {*before.metadata, *before.texts}
        new = Description(
            metadata={name: value for name, value in item.said.metadata.items() if name not in named},
            texts={name: text for name, text in item.said.texts.items() if name not in named},
        )
        result = type_texts([new], metadata_types(self._collection))[0]
        caption = item.said.caption if not before.caption else None
        return {**result.metadata, **({"caption": caption} if caption else {})}, result.left_out

    def decode(self, read: Read) -> Decoded | Task | None:
        """The pixels of an image; the task, if its bytes are those that are stored; None if they are no good."""
        try:
            return self._decode(read.task, read.data)
        finally:
            self.release(read)

    def _decode(self, task: Task, data: bytes) -> Decoded | Task | None:
        with _QuarantineErrors(self._put_away, task.item):
            if task.stored is not None:
                sha256 = hashlib.sha256(data).hexdigest()
                if has_same_bytes(task.stored, sha256, fingerprint=self._fingerprint):
                    return replace(task, item=replace(task.item, content=None), action=Action.REWRITE)
            embedder = self._collection.embedder
            image = load_image(
                data,
                target=find_needed_side(embedder),
                limits=self._options.limits,
                name=task.item.uri,
                admit=self._pixel_bytes.using,
            )
            info = image.info if self._options.tags else replace(image.info, tags={})
            taken_at = image.taken_at
            if taken_at is None and self._options.name_dates:
                taken_at = read_name_date(task.item.name)
            headers = task.record.source.metadata if task.record.source is not None else {}
            left_out = [*task.left_out]
            record = add_description(task.record, describe_image(info.tags, headers), left_out=left_out)
            record = self._collection.writer.check(add_image(record, info, taken_at, image.location), left_out=left_out)
            item = replace(task.item, content=None)  # or it would be held until the vector is written
            task = replace(task, item=item, record=record, left_out=tuple(left_out))
            return Decoded(task, embedder.preprocess(image.rgb))
        return None

    def embed(self, decoded: Sequence[Decoded]) -> list[Embedded]:
        """The vectors of a batch, without the images that are left out."""
        there = self._collection.writer.find_same_bytes([_sha256(one) for one in decoded])
        kept = [Decoded(task, one.pixels) for one in decoded if (task := self._compare(one.task)) is not None]
        kinds = dict(zip((one.task.item.uri for one in kept), self._kinds(kept, there), strict=True))
        embedded = [
            Embedded(one.task, there[_sha256(one)][1], *kinds[one.task.item.uri])
            for one in kept
            if _sha256(one) in there
        ]
        rest = [one for one in kept if _sha256(one) not in there]

        def work(group: Sequence[Decoded]) -> None:
            vectors = self._collection.embedder.embed_pixels(np.stack([one.pixels for one in group]))
            embedded.extend(
                [Embedded(one.task, row, *kinds[one.task.item.uri]) for one, row in zip(group, vectors, strict=True)]
            )

        bisect_work(rest, work, lambda one, error: self._put_away(one.task.item, error))
        return embedded

    def _kinds(
        self, decoded: Sequence[Decoded], there: Mapping[str, tuple[Mapping[str, Any], np.ndarray]]
    ) -> Iterator[tuple[Kind, str | None]]:
        """What each counts as, and the old uri of what is renamed; `there` is stored, by hash."""
        with self._lock:
            firsts = self._met.add_all([_sha256(one) for one in decoded])
        before = [there[_sha256(one)][0]["uri"] if _sha256(one) in there else None for one in decoded]
        asked = [uri for one, uri in zip(decoded, before, strict=True) if one.task.stored is None and uri is not None]
        gone = dict(are_gone(list(dict.fromkeys(asked)), self._source))
        for one, uri, is_first in zip(decoded, before, firsts, strict=True):
            if one.task.stored is not None:
                yield "updated", None
            elif uri is not None and uri != one.task.item.uri:
                yield ("renamed", uri) if gone.get(uri) and is_first else ("copied", None)
            else:
                yield ("added" if is_first else "copied"), None

    def _compare(self, task: Task) -> Task | None:
        """The task, marked if its image nearly equals another; None if the image is left out for that."""
        info = task.record.image
        if self._duplicates is None or info is None:
            return task
        first = self._duplicates.find_first(task.item.uri, info.phash)
        if first is None:
            return task
        if self._options.dedupe == "tag" or task.stored is not None:  # what is stored must not stay as it was
            return replace(task, record=replace(task.record, duplicate_of=first))
        item = task.item
        self._tell(ObjectOutcome(item.uri, Duplicate(item.uri, first, item.etag, item.size, item.mtime)))
        return None

    def write(self, embedded: Sequence[Embedded], tasks: Sequence[Task] = ()) -> None:
        """Stores images with their vectors, and the payloads of those whose bytes are as they are stored."""
        bisect_work(embedded, self._write_images, lambda one, error: self._put_away(one.task.item, error))
        bisect_work(tasks, self._write_payloads, lambda task, error: self._put_away(task.item, error))

    def _write_images(self, group: Sequence[Embedded]) -> None:
        left_out = [[*one.task.left_out] for one in group]
        # Other images may have filled the collection with fields since this one was decoded.
        records = [
            self._collection.writer.check(one.task.record, left_out=faults)
            for one, faults in zip(group, left_out, strict=True)
        ]
        self._collection.writer.write(records, np.stack([one.vector for one in group]))
        for one, faults in zip(group, left_out, strict=True):
            self._tell(ObjectOutcome(one.task.item.uri, one.kind, one.moved_from, tuple(faults)))

    def _write_payloads(self, group: Sequence[Task]) -> None:
        try:
            records = [self._fit(complete_record(task.record, task.stored or {})) for task in group]
            self._collection.writer.write_payloads(records)
        except (StoreUnavailable, StoreLocked):
            raise
        except StoreError:
            there = self._collection.writer.read_payloads([task.item.uri for task in group])
            missing = [task for task in group if task.item.uri not in there]
            if not missing:
                raise
            if rest := [task for task in group if task.item.uri in there]:
                self._write_payloads(rest)
            for task in missing:  # somebody has deleted it since it was planned
                self._do_whole(replace(task, stored=None, action=Action.LOAD))
            return
        for task in group:
            self._tell(ObjectOutcome(task.item.uri, "payload_updated", left_out=task.left_out))

    def _do_whole(self, task: Task) -> None:
        """One image through all stages at once."""
        read = self.read(task)
        decoded = self.decode(read) if isinstance(read, Read) else None
        if isinstance(decoded, Decoded):
            self.write(self.embed([decoded]))

    def _put_away(self, item: SourceObject, error: Exception) -> None:
        self._tell(ObjectOutcome(item.uri, quarantine(item, error)))


@dataclass(frozen=True, slots=True)
class _QuarantineErrors:
    """Puts away an image for its errors.

    Not a generator: from Python 3.12 on an error that one keeps to itself lives, with the bytes of the image, until the
    garbage collection finds it.
    """

    put_away: Callable[[SourceObject, Exception], None]
    item: SourceObject

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, Stopped):
            return True  # it is left for the next run
        if not isinstance(error, Exception):
            return False
        self.put_away(self.item, error)  # `quarantine` raises what is not of one image
        return True


def metadata_types(collection: ImageCollection) -> dict[str, FieldType]:
    """The types of the collection's metadata fields, by name without prefix."""
    return {
        name.removeprefix(METADATA_PREFIX): kind
        for name, kind in collection.fields.items()
        if name.startswith(METADATA_PREFIX)
    }


def _sha256(one: Decoded) -> str:
    assert one.task.record.image is not None
    return one.task.record.image.sha256
