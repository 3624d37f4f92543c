"""ImageCollection: the images of one embedder in one Qdrant collection; add them, search, filter, count, delete.

photos = ImageCollection("photos", ClipEmbedder.load(), connect("./qdrant-data"))
photos.add(["cat.jpg"], metadata=[{"album": "pets", "year": 2024}])
photos.search("a cat asleep", where="year >= 2022")
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.description import Layout
from clip_qdrant.collection.hits import Facet, Hit
from clip_qdrant.collection.points import batches, checked_record, checked_vectors, hit_of, id_of, whole_number
from clip_qdrant.collection.query import Query, as_vector, unit
from clip_qdrant.errors import CollectionNotFound, ConfigError, FilterError, QueryError, UnsupportedByEdge
from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.types import FieldType
from clip_qdrant.filters.build import Where, build_filter, holds_always, resolve_field
from clip_qdrant.records import ImageRecord
from clip_qdrant.uris import point_id

if TYPE_CHECKING:
    from clip_qdrant.collection.add import AddResult
    from clip_qdrant.embedder_protocol import Embedder
    from clip_qdrant.images.load import ImageInput

__all__ = ["ImageCollection"]

_T = TypeVar("_T")
_IDS_PER_CALL = 1000
_FACETED: tuple[FieldType, ...] = ("keyword", "integer", "bool")


class ImageCollection:
    """Images and their vectors under one name. Opening is one client call; the first write creates the collection.

    `fields` declares metadata fields by name ("year") and type; others are inferred from the first values written.
    `shard_number` and `replication_factor` say how a collection that is created is spread over a Qdrant cluster.
    `patience` is how many seconds a call that fails because the store is away or busy is tried again, with growing
    pauses, before it raises StoreUnavailable; opening waits 2 at most. A request that times out took its time off it,
    and once `stopped` says so nothing is tried again.
    All methods may be called from several threads. Any of them may raise StoreError.

    Raises FingerprintMismatch if the collection was made by another embedder, StoreError if it was not made by this
    package, ConfigError if a declared field has another type in it.
    """

    def __init__(
        self,
        name: str,
        embedder: Embedder,
        client: QdrantBase,
        *,
        fields: Mapping[str, FieldType] | None = None,
        patience: float = 2.0,
        shard_number: int | None = None,
        replication_factor: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        if not name:
            raise ConfigError("a collection needs a name that is not empty")
        if not (_is_number(patience) and 0 <= patience < math.inf):
            raise ConfigError(f"patience must be a finite number of seconds, 0 or more, not {patience!r}")
        for option, number in (("shard_number", shard_number), ("replication_factor", replication_factor)):
            if number is not None and number < 1:
                raise ConfigError(f"{option} must be at least 1, not {number}")
        self.name = name
        self.embedder = embedder
        self.client = client
        self._layout = Layout(
            name,
            client,
            fingerprint=embedder.fingerprint,
            dim=embedder.dim,
            declared=Schema(fields or {}),
            patience=patience,
            shard_number=shard_number,
            replication_factor=replication_factor,
            stopped=stopped,
        )

    def __repr__(self) -> str:
        return f"ImageCollection({self.name!r})"

    @property
    def fields(self) -> Mapping[str, FieldType]:
        """The type of every field that `where` knows, by full payload key: "metadata.year", "caption", …"""
        return self._layout.payload_fields

    def exists(self) -> bool:
        """Whether the collection is there now (asks the store)."""
        return self._layout.open()

    def add(
        self,
        images: Iterable[ImageInput],
        *,
        uris: Iterable[str | os.PathLike[str] | None] | None = None,
        captions: Iterable[str | None] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        batch_size: int = 32,
        progress: Callable[[int], None] | None = None,
    ) -> AddResult:
        """Embeds and stores images, a batch at a time; `uris`, `captions` and `metadata` go with them one to one.

        An image is known by its uri: that of its path, or `urn:sha256:…` of its bytes or pixels. Adding it again
        writes nothing where nothing changed, only the payload where its bytes are the same, everything where they
        are not. A caption or metadata that is not given (None) stays as it is stored; "" and {} remove it.
        Of one uri given twice in a batch the last wins. `progress` is told, after each batch, how many images it held.

        Raises ImageError (naming uri and position), MetadataError, or ConfigError if the iterables differ in length:
        the batches before are stored, the batch at fault is not at all.
        """
        from clip_qdrant.collection.add import add_images

        return add_images(
            self,
            images,
            uris=uris,
            captions=captions,
            metadata=metadata,
            batch_size=batch_size,
            progress=progress,
        )

    def check(self, record: ImageRecord) -> ImageRecord:
        """The record with its metadata as it would be stored. Raises MetadataError if it does not fit its fields."""
        metadata = self._layout.schema.normalise(checked_record(record).metadata, uri=record.uri)
        return replace(record, metadata=metadata)

    def stored(self, uris: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The payloads of those of these images that are there, by uri; {} if there is no collection."""
        if not self._layout.exists and not self._layout.open():
            return {}
        by_id = {point_id(uri): uri for uri in uris}
        try:
            return {by_id[str(r.id)]: dict(r.payload or {}) for r in self._retrieve(list(by_id), with_payload=True)}
        except CollectionNotFound:
            self._layout.forget()
            return {}

    def expect(self, fields: Mapping[str, FieldType]) -> None:
        """Types of metadata fields that may come: a new field gets the type named here, where its first values fit it.

        Nothing is created. So a field of titles stays text although the first ones may all look like dates.
        """
        self._layout.expect(fields)

    def scan(self, where: Where | None = None, *, parts: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The payloads of all images that `where` holds for, page by page, in the order of their ids.

        `parts` are the payload keys wanted ("uri", "image.sha256"); everything without it.
        """
        if not self._layout.exists and not self._layout.open():
            return
        selection, offset = self._filter(where), None
        while True:
            records, offset = self._scroll(selection, offset, True if parts is None else list(parts), False)
            yield from (dict(record.payload or {}) for record in records)
            if offset is None:
                return

    def of_bytes(self, sha256: Iterable[str]) -> dict[str, tuple[dict[str, Any], np.ndarray]]:
        """Payload and vector, float32 (dim,), of one stored image for each of these hashes of files that there is."""
        found: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
        wanted = set(sha256)
        if not self._layout.exists and not self._layout.open():
            return found
        try:
            while wanted:  # a page may hold copies of one image alone; so what is found is not asked for again
                conditions: list[models.Condition] = [
                    models.FieldCondition(key="image.sha256", match=models.MatchAny(any=sorted(wanted))),
                    models.FieldCondition(key="fingerprint", match=models.MatchValue(value=self.embedder.fingerprint)),
                ]
                records, _ = self._scroll(models.Filter(must=conditions), None, True, True, limit=2 * len(wanted))
                for record in records:
                    payload = dict(record.payload or {})
                    found.setdefault(payload["image"]["sha256"], (payload, np.asarray(record.vector, np.float32)))
                if len(records) < 2 * len(wanted):
                    break
                wanted -= found.keys()
        except CollectionNotFound:
            self._layout.forget()
        return found

    def prepare(self, records: Sequence[ImageRecord]) -> None:
        """Makes the collection fit to hold these records: creates it, and the fields that are new.

        `write` and `write_payloads` do it for what they are given. Raises MetadataError before anything changes.
        """
        self._layout.prepare([checked_record(r).metadata for r in records], uris=[r.uri for r in records])

    def write(self, records: Sequence[ImageRecord], vectors: np.ndarray) -> None:
        """Stores images with their vectors, (n, dim) unit rows, in one upsert that is done when this returns.

        Creates the collection and extends its fields as needed; checks everything before it writes anything.
        Raises MetadataError or InvalidPoint, naming the uri.
        """
        rows = checked_vectors(records, vectors, dim=self.embedder.dim)
        if not records:
            return

        def upsert() -> None:
            points = [
                models.PointStruct(id=record.id, vector=row.tolist(), payload=payload)
                for record, row, payload in zip(records, rows, self._payloads(records), strict=True)
            ]
            points = list({point.id: point for point in points}.values())  # of one uri given twice the last wins
            self._layout.ask(
                lambda: self.client.upsert(self.name, points=points, wait=True),
                what=f"storing {len(points)} images in collection {self.name!r}",
            )

        self._despite_deletion(upsert)

    def write_payloads(self, records: Sequence[ImageRecord]) -> None:
        """Replaces the payloads of stored images, whole, and leaves their vectors alone.

        Raises MetadataError before anything is written, StoreError for an image that is not there.
        """
        if not records:
            return
        payloads = self._payloads(records)
        operations = [
            models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload=payload, points=[record.id]))
            for record, payload in zip(records, payloads, strict=True)
        ]
        try:
            self._layout.ask(
                lambda: self.client.batch_update_points(self.name, update_operations=operations, wait=True),
                what=f"storing {len(records)} payloads in collection {self.name!r}",
            )
        except UnsupportedByEdge:  # an embedded store has no round trips to save
            for record, payload in zip(records, payloads, strict=True):
                self._overwrite(record, payload)

    def search(
        self,
        query: str | Query | ImageInput | Sequence[float],
        *,
        where: Where | None = None,
        limit: int = 10,
        offset: int = 0,
        score_threshold: float | None = None,
    ) -> list[Hit]:
        """The images most similar to a query, best first, among those that `where` holds for.

        A `str` is always a text. A Path, bytes, PIL image or uint8 array is an image; a float array or list (dim,)
        is a vector; a Query combines them. Stored images that a Query names are left out of its result.
        `score_threshold` is the least cosine similarity to return, -1 to 1.

        Raises QueryError, FilterError, ImageError, CollectionNotFound.
        """
        limit = whole_number("limit", limit, at_least=1)
        offset = whole_number("offset", offset, at_least=0)
        if score_threshold is not None:
            if not _is_number(score_threshold) or not math.isfinite(score_threshold):
                raise QueryError(f"score_threshold must be a finite number, not {score_threshold!r}")
            score_threshold = float(score_threshold)
        self._layout.require()
        selection = self._filter(where)
        vector, mentioned = self._query_vector(query)
        if mentioned:
            selection = models.Filter(
                must=[selection] if selection is not None else None,
                must_not=[models.HasIdCondition(has_id=[*mentioned])],
            )
        response = self._layout.ask(
            lambda: self.client.query_points(
                self.name,
                query=vector.tolist(),
                query_filter=selection,
                limit=limit,
                offset=offset or None,
                with_payload=True,
                score_threshold=score_threshold,
            ),
            what=f"searching collection {self.name!r}",
        )
        return [hit_of(point, point.score) for point in response.points]

    def get(self, image: str | os.PathLike[str]) -> Hit | None:
        """The stored image of this uri, path or point id, without a score; None if it is not there."""
        self._layout.require()
        found = self._retrieve([id_of(image)], with_payload=True)
        return next((hit_of(record, None) for record in found), None)

    def count(self, where: Where | None = None) -> int:
        """The number of images that `where` holds for, exact; of all without it."""
        self._layout.require()
        return self._count(self._filter(where))

    def facet(self, field: str, *, where: Where | None = None, limit: int = 20) -> list[Facet]:
        """The values of a keyword, integer or bool field and how many images have each, most frequent first.

        Raises FilterError for a field that is not there or has another type.
        """
        limit = whole_number("limit", limit, at_least=1)
        self._layout.require()
        key = self._fresh(lambda: resolve_field(field, self.fields))
        kind = self.fields[key]
        if kind not in _FACETED:
            raise FilterError(f"field {field!r} is of type {kind}; values are counted for {', '.join(_FACETED)} only")
        selection = self._filter(where)
        response = self._layout.ask(
            lambda: self.client.facet(self.name, key=key, facet_filter=selection, limit=limit, exact=True),
            what=f"counting the values of {field!r} in collection {self.name!r}",
        )
        return [Facet(hit.value, hit.count) for hit in response.hits]

    def delete(self, *, uris: Iterable[str | os.PathLike[str]] | None = None, where: Where | None = None) -> int:
        """Deletes the images of these uris (or paths, or point ids), those `where` holds for, or with both the
        images that are in both. Gives the number deleted. Raises QueryError without either: `drop` deletes all.
        """
        if isinstance(uris, str | os.PathLike):
            raise QueryError(f"uris takes an iterable: [{str(uris)!r}]")
        self._layout.require()
        selection = self._filter(where)
        if uris is None:
            if selection is None or holds_always(selection):
                raise QueryError("delete() needs uris or where; drop() deletes the whole collection")
            return self._delete(selection)
        deleted = 0
        ids = dict.fromkeys(id_of(uri) for uri in uris)
        for chunk in batches(ids, _IDS_PER_CALL):
            must: list[models.Condition] = [models.HasIdCondition(has_id=[*chunk])]
            if selection is not None:
                must.append(selection)
            deleted += self._delete(models.Filter(must=must))
        return deleted

    def drop(self) -> None:
        """Deletes the whole collection; the next write creates it again. No error if it is not there."""
        with contextlib.suppress(CollectionNotFound):
            self._layout.ask(
                lambda: self.client.delete_collection(self.name), what=f"deleting collection {self.name!r}"
            )
        self._layout.forget()

    def _payloads(self, records: Sequence[ImageRecord]) -> list[dict[str, Any]]:
        """What is to be stored, after making the collection fit to hold it."""
        metadatas = self._layout.prepare([checked_record(r).metadata for r in records], uris=[r.uri for r in records])
        now = datetime.now(timezone.utc)
        fingerprint = self.embedder.fingerprint
        return [
            replace(record, metadata=metadata).payload(fingerprint=fingerprint, ingested_at=now)
            for record, metadata in zip(records, metadatas, strict=True)
        ]

    def _despite_deletion(self, write: Callable[[], None]) -> None:
        """Runs a write again, once, if somebody deleted the collection since it was opened."""
        try:
            write()
        except CollectionNotFound:
            self._layout.forget()
            write()

    def _overwrite(self, record: ImageRecord, payload: dict[str, Any]) -> None:
        self._layout.ask(
            lambda: self.client.overwrite_payload(self.name, payload=payload, points=[record.id], wait=True),
            what=f"storing the payload of {record.uri} in collection {self.name!r}",
        )

    def _query_vector(self, query: Any) -> tuple[np.ndarray, list[str]]:
        """The unit vector of a query, float32 (dim,), and the point ids it mentions."""
        if isinstance(query, str):
            query = Query.text(query)
        elif isinstance(query, list | tuple) or (isinstance(query, np.ndarray) and query.dtype.kind == "f"):
            vector = as_vector(query)
            if vector.shape != (self.embedder.dim,):
                raise QueryError(f"the query vector has {len(vector)} numbers, the collection's {self.embedder.dim}")
            return unit(vector).astype(np.float32), []
        elif not isinstance(query, Query):
            query = Query.image(query)
        return query.evaluate(self.embedder, self._stored_vectors), [id_of(name) for name in query.names()]

    def _stored_vectors(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        ids = {name: id_of(name) for name in names}
        found = {str(r.id): r.vector for r in self._retrieve(list(set(ids.values())), with_vectors=True)}
        return {name: np.asarray(found[key], np.float32) for name, key in ids.items() if key in found}

    def _retrieve(
        self, ids: Sequence[str], *, with_payload: bool = False, with_vectors: bool = False
    ) -> Iterator[models.Record]:
        for chunk in batches(ids, _IDS_PER_CALL):
            yield from self._retrieve_chunk(chunk, with_payload, with_vectors)

    def _retrieve_chunk(self, ids: list[str], with_payload: bool, with_vectors: bool) -> list[models.Record]:
        return self._layout.ask(
            lambda: self.client.retrieve(self.name, ids=ids, with_payload=with_payload, with_vectors=with_vectors),
            what=f"reading from collection {self.name!r}",
        )

    def _scroll(
        self,
        selection: models.Filter | None,
        offset: Any,
        with_payload: bool | list[str],
        with_vectors: bool,
        *,
        limit: int = _IDS_PER_CALL,
    ) -> tuple[list[models.Record], Any]:
        return self._layout.ask(
            lambda: self.client.scroll(
                self.name,
                scroll_filter=selection,
                limit=limit,
                offset=offset,
                with_payload=with_payload,
                with_vectors=with_vectors,
            ),
            what=f"reading from collection {self.name!r}",
        )

    def _count(self, selection: models.Filter | None) -> int:
        return self._layout.ask(
            lambda: self.client.count(self.name, count_filter=selection, exact=True),
            what=f"counting in collection {self.name!r}",
        ).count

    def _delete(self, selection: models.Filter) -> int:
        number = self._count(selection)
        if number:
            self._layout.ask(
                lambda: self.client.delete(
                    self.name, points_selector=models.FilterSelector(filter=selection), wait=True
                ),
                what=f"deleting from collection {self.name!r}",
            )
        return number

    def _filter(self, where: Where | None) -> models.Filter | None:
        if where is None:
            return None
        return self._fresh(lambda: build_filter(where, self.fields))

    def _fresh(self, resolve: Callable[[], _T]) -> _T:
        """Resolves names of fields; before one is refused, looks whether another process has added it meanwhile."""
        try:
            return resolve()
        except FilterError as error:
            if error.unknown_field is None:
                raise
            known = self.fields
            self._layout.open()
            if self.fields == known:
                raise
            return resolve()


def _is_number(value: object) -> bool:
    # Real, not float and int: a numpy scalar is as good.
    return isinstance(value, Real) and not isinstance(value, bool)
