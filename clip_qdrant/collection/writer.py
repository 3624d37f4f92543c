"""Writing to a collection, as ingestion and `ImageCollection.add` do: check records, see what is stored, store.

writer = images.writer
record = writer.check(ImageRecord("s3://photos/cat.jpg", metadata={"year": 2024}))
writer.write([record], vectors)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from clip_qdrant.collection.points import check_uri, check_vectors, count_bytes, dense_vector, split_requests
from clip_qdrant.collection.reader import CollectionReader
from clip_qdrant.collection.standard_fields import fill_standard_fields
from clip_qdrant.collection.text.vectors import TEXT_VECTOR, make_document
from clip_qdrant.errors import CollectionNotFound, MetadataError
from clip_qdrant.fields.types import FieldType
from clip_qdrant.filters.build import Where
from clip_qdrant.records import ImageRecord
from clip_qdrant.uris import point_id

if TYPE_CHECKING:
    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["CollectionWriter"]


class CollectionWriter:
    """Checks and stores the images of one collection, and reads the payloads that are there. See `images.writer`.

    All methods may be called from several threads. Any of them may raise StoreError.
    """

    def __init__(self, embedder: Embedder, reader: CollectionReader) -> None:
        self.embedder = embedder
        self._reader = reader
        self._description = reader.description
        self._client = reader.client
        self._name = reader.name

    def check(self, record: ImageRecord, *, left_out: list[MetadataError] | None = None) -> ImageRecord:
        """The record with its metadata as it would be stored, and its standard fields filled from it.

        Raises MetadataError if something does not fit its field; with `left_out` that field is left out, and its error
        added to that list. The metadata remembers that it was checked: storing the record does it again only if the
        fields have changed.
        """
        check_uri(record.uri)
        record = fill_standard_fields(record, left_out=left_out)
        schema = self._description.schema
        return replace(record, metadata=schema.normalise(record.metadata, uri=record.uri, left_out=left_out))

    def read_payloads(self, uris: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The payloads of these images by uri, without those that are not stored; {} if there is no collection."""
        if not self._is_there():
            return {}
        by_id = {point_id(uri): uri for uri in uris}
        try:
            return {
                by_id[str(r.id)]: dict(r.payload or {}) for r in self._reader.retrieve(list(by_id), with_payload=True)
            }
        except CollectionNotFound:
            self._description.forget()
            return {}

    def expect(self, fields: Mapping[str, FieldType]) -> None:
        """Types for metadata fields that may come: a new field gets the type named here if its first values fit it.

        So a field of titles becomes text although the first titles may all look like dates. Nothing is created.
        """
        self._description.expect(fields)

    def scan(self, where: Where | None = None, *, parts: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The payloads of all images that `where` holds for, page by page, in the order of their ids.

        `parts` are the payload keys wanted ("uri", "image.sha256"); everything without it.
        """
        if not self._is_there():
            return
        selection, offset = self._reader.build_filter(where), None
        while True:
            records, offset = self._reader.scroll(selection, offset, True if parts is None else list(parts), False)
            yield from (dict(record.payload or {}) for record in records)
            if offset is None:
                return

    def find_same_bytes(self, sha256: Iterable[str]) -> dict[str, tuple[dict[str, Any], np.ndarray]]:
        """For each sha256 that is stored, payload and vector, float32 (dim,), of one image of these bytes."""
        found: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
        missing = set(sha256)
        if not self._is_there():
            return found
        try:
            while missing:  # a page may hold copies of one image alone; so what is found is not asked for again
                conditions: list[models.Condition] = [
                    models.FieldCondition(key="image.sha256", match=models.MatchAny(any=sorted(missing))),
                    models.FieldCondition(key="fingerprint", match=models.MatchValue(value=self.embedder.fingerprint)),
                ]
                selection, limit = models.Filter(must=conditions), 2 * len(missing)
                records, following = self._reader.scroll(selection, None, True, True, limit=limit)
                for record in records:
                    payload = dict(record.payload or {})
                    found.setdefault(
                        payload["image"]["sha256"], (payload, np.asarray(dense_vector(record.vector), np.float32))
                    )
                if following is None:
                    break
                missing -= found.keys()
        except CollectionNotFound:
            self._description.forget()
        return found

    def look_again(self) -> None:
        """Reads how the collection is now: it may be gone, or made anew, since it was opened.

        Raises FingerprintMismatch if another embedder made it: what is written would be compared with its vectors.
        """
        self._description.open()

    def complete(self) -> None:
        """Makes what a collection that is there lacks: payload indexes that were dropped, or not made to the end."""
        if self._description.open():
            self._description.prepare([], uris=[])

    def prepare(self, records: Sequence[ImageRecord]) -> None:
        """Makes the collection fit to hold these records: creates it, and the fields that are new.

        `write` and `write_payloads` do it for what they are given. Raises MetadataError before anything changes.
        """
        self._prepare(records)

    def write(self, records: Sequence[ImageRecord], vectors: np.ndarray) -> None:
        """Stores images with their vectors, (n, dim) unit rows, in one upsert that is done when this returns.

        It is several where one would be larger than a server takes.

        Creates the collection and extends its fields as needed; checks everything before it writes anything.
        Raises MetadataError or InvalidPoint, naming the uri.
        """
        rows = check_vectors(records, vectors, dim=self.embedder.dim)
        if not records:
            return

        def upsert() -> None:
            points, sizes = {}, {}  # of one uri given twice the last wins
            for record, row, payload in zip(records, rows, self._payloads(records), strict=True):
                words = make_document(payload, self._description.payload_fields)
                vector: Any = row.tolist() if words is None else {"": row.tolist(), TEXT_VECTOR: words}
                points[record.id] = models.PointStruct(id=record.id, vector=vector, payload=payload)
                sizes[record.id] = count_bytes(payload, len(row) + _count_numbers(words))
            for some in split_requests(list(points.values()), sizes.values()):
                self._upsert(some)

        self._run_despite_deletion(upsert)

    def _upsert(self, points: list[models.PointStruct]) -> None:
        self._description.ask(
            lambda: self._client.upsert(self._name, points=points, wait=True),
            what=f"storing {len(points)} images in collection {self._name!r}",
        )

    def write_payloads(self, records: Sequence[ImageRecord]) -> None:
        """Replaces the payloads of stored images, whole, and the vectors of their words; those of the images stay.

        Raises MetadataError before anything is written, StoreError for an image that is not there.
        """
        if not records:
            return
        changes, sizes = [], []
        for record, payload in zip(records, self._payloads(records), strict=True):
            words = make_document(payload, self._description.payload_fields)
            changes.append(_change_payload(record.id, payload, words))
            sizes.append(count_bytes(payload, _count_numbers(words)))
        for some in split_requests(changes, sizes):
            self._update(some)

    def _update(self, changes: list[list[models.UpdateOperation]]) -> None:
        operations = [operation for change in changes for operation in change]
        self._description.ask(
            lambda: self._client.batch_update_points(self._name, update_operations=operations, wait=True),
            what=f"storing {len(changes)} payloads in collection {self._name!r}",
        )

    def _payloads(self, records: Sequence[ImageRecord]) -> list[dict[str, Any]]:
        """What is to be stored, after making the collection fit to hold it."""
        records = self._prepare(records)
        now = datetime.now(UTC)
        fingerprint, fields = self.embedder.fingerprint, self._description.schema.payload_fields()
        return [record.payload(fingerprint=fingerprint, ingested_at=now, fields=fields) for record in records]

    def _prepare(self, records: Sequence[ImageRecord]) -> list[ImageRecord]:
        for record in records:
            check_uri(record.uri)
        records = [fill_standard_fields(record) for record in records]
        metadatas = self._description.prepare([r.metadata for r in records], uris=[r.uri for r in records])
        return [replace(record, metadata=metadata) for record, metadata in zip(records, metadatas, strict=True)]

    def _is_there(self) -> bool:
        """Whether there is a collection; it is looked for if there was none before."""
        return self._description.exists or self._description.open()

    def _run_despite_deletion(self, write: Callable[[], None]) -> None:
        """Runs a write again, once, if somebody deleted the collection since it was opened."""
        try:
            write()
        except CollectionNotFound:
            self._description.forget()
            write()


def _change_payload(
    point: str, payload: dict[str, Any], words: models.SparseVector | None
) -> list[models.UpdateOperation]:
    """The payload last: if only the first of the two was done, the payload shows that the image is to be written."""
    vectors: models.UpdateOperation
    if words is None:
        vectors = models.DeleteVectorsOperation(
            delete_vectors=models.DeleteVectors(points=[point], vector=[TEXT_VECTOR])
        )
    else:
        changed = models.PointVectors(id=point, vector={TEXT_VECTOR: words})
        vectors = models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=[changed]))
    payloads = models.SetPayload(payload=payload, points=[point])
    return [vectors, models.OverwritePayloadOperation(overwrite_payload=payloads)]


def _count_numbers(words: models.SparseVector | None) -> int:
    return 0 if words is None else 2 * len(words.indices)
