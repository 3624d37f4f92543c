"""ClipQdrantDocumentStore: a collection of images as a Haystack document store.

store = ClipQdrantDocumentStore("photos", location="http://localhost:6333")
store.write_documents([Document(content="a cat asleep", meta={"file_path": "cat.jpg", "year": 2024})])
store.filter_documents({"field": "meta.year", "operator": ">=", "value": 2022})
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from haystack import Document, default_from_dict, default_to_dict
from haystack.core.errors import SerializationError
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError as HaystackFilterError
from haystack.utils import Secret
from qdrant_client import models

from clip_qdrant.collection.async_face import run_in_thread
from clip_qdrant.collection.edit.metadata import edit_payloads
from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import batches, make_hit
from clip_qdrant.collection.reader import IDS_PER_CALL
from clip_qdrant.content import BUNDLED
from clip_qdrant.embedder_protocol import find_needed_side
from clip_qdrant.errors import ConfigError, FilterError
from clip_qdrant.fields.types import FieldType
from clip_qdrant.filters.build import Where
from clip_qdrant.integrations.payloads import is_text, list_changes, text_uri
from clip_qdrant.store.connect import connect
from clip_qdrant.uris import point_id
from clip_qdrant.url_secrets import mask_secrets
from haystack_integrations.document_stores.clip_qdrant.documents import (
    DOCUMENT_ID,
    StoredDocument,
    change_fields,
    make_document,
    path_uri,
    read_document,
    read_image,
)
from haystack_integrations.document_stores.clip_qdrant.fields import find_limits, list_fields, list_values
from haystack_integrations.document_stores.clip_qdrant.filters import build_where, field_name
from haystack_integrations.document_stores.clip_qdrant.model import Runtime, load_embedder

__all__ = ["ClipQdrantDocumentStore"]

_Result = TypeVar("_Result")


class ClipQdrantDocumentStore:
    """The images of one collection as documents. Whatever wrote them: ingestion, `ImageCollection.add`, or this.

    `collection`, `location` and `fields` are as in ImageCollection and `connect`, `model`, `runtime` and `device` as in
    `ClipEmbedder.load`; a server may take an `api_key`. Paths in documents are relative to `root_path`, where there is
    one, and may not lead out of it. `shared` lets other processes use an embedded store meanwhile. Nothing is opened
    before the first call.
    """

    def __init__(
        self,
        collection: str = "images",
        *,
        location: str = "./qdrant-data",
        model: str = BUNDLED,
        runtime: Runtime = "auto",
        device: str = "auto",
        api_key: Secret | None = Secret.from_env_var("CLIP_QDRANT_API_KEY", strict=False),  # noqa: B008  # is frozen
        fields: Mapping[str, FieldType] | None = None,
        root_path: str | None = None,
        shared: bool = False,
    ) -> None:
        self.collection = collection
        self.location = str(location)
        self.model = str(model)
        self.runtime = runtime
        self.device = device
        self.api_key = api_key
        self.fields = None if fields is None else dict(fields)
        self.root_path = root_path
        self.shared = shared
        self._given: ImageCollection | None = None
        self._opened: ImageCollection | None = None
        self._opening = threading.Lock()

    @classmethod
    def wrap(cls, images: ImageCollection, *, root_path: str | None = None) -> ClipQdrantDocumentStore:
        """A store over a collection that is open already, with a client and an embedder of one's own.

        It cannot be written into a file.
        """
        store = cls(images.name, root_path=root_path)
        store._given = store._opened = images
        return store

    @property
    def images(self) -> ImageCollection:
        """The collection itself, opened at first use. Raises what ImageCollection, `connect` and `load` do."""
        with self._opening:
            if self._opened is None:
                embedder = load_embedder(self.model, runtime=self.runtime, device=self.device)
                key = None if self.api_key is None else self.api_key.resolve_value()
                client = connect(self.location, api_key=key, shared=self.shared)
                try:
                    self._opened = ImageCollection(self.collection, embedder, client, fields=self.fields)
                except BaseException:
                    client.close()  # an embedded store would be locked by nobody's client
                    raise
            return self._opened

    def warm_up(self) -> None:
        """Opens the collection and loads the model, which the first call would do otherwise."""
        self.images.exists()

    def close(self) -> None:
        """Closes the client that was opened here; the next call opens another."""
        with self._opening:
            opened, self._opened = self._opened, self._given
        if opened is not None and opened is not self._given:
            opened.client.close()

    def to_dict(self) -> dict[str, Any]:
        """The store as Haystack writes it into a file: without the key, which is named by its environment variable.

        Raises SerializationError for a store made by `wrap` and for a location with a password in it, ValueError for
        a key that is no environment variable.
        """
        if self._given is not None:
            raise SerializationError(
                f"the store wraps the open collection {self.collection!r}, which no file can name; make it by "
                "ClipQdrantDocumentStore(collection, location=…, model=…)"
            )
        if mask_secrets(self.location) != self.location:
            raise SerializationError(
                f"the location {mask_secrets(self.location)} holds a secret, which does not belong in a file; give it "
                'as api_key=Secret.from_env_var("…")'
            )
        return default_to_dict(
            self,
            collection=self.collection,
            location=self.location,
            model=self.model,
            runtime=self.runtime,
            device=self.device,
            api_key=self.api_key,
            fields=self.fields,
            root_path=self.root_path,
            shared=self.shared,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClipQdrantDocumentStore:
        """The store that `to_dict` described."""
        return default_from_dict(cls, data)

    def count_documents(self) -> int:
        """The number of images, and of documents of text alone."""
        return self.images.count()

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that filters hold for, in the order of their points. Raises Haystack's FilterError."""
        payloads = _ask(lambda: [*self.images.writer.scan(self.build_where(filters))])
        known = [each for each in payloads if "uri" in each]  # other programs may have put points beside them
        hits = [make_hit(models.Record(id=point_id(each["uri"]), payload=each), None) for each in known]
        return [self.make_document(hit) for hit in hits]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Stores documents, and gives how many it wrote. Images are embedded here, and texts of documents without one,
        unless they bring an embedding, which must be of the same model.

        A document is there already if its id is, or its image. By default it is overwritten, so that a pipeline may
        run again. Of one that came from here, with its `meta["uri"]`, caption and metadata are changed as
        `ImageCollection.update_metadata` does, and the image stays.

        Raises DuplicateDocumentError before anything is written; ValueError for what is no list of documents;
        ConfigError, ImageError, SourceError and MetadataError for one that cannot be stored.
        """
        if not isinstance(documents, list) or not all(isinstance(document, Document) for document in documents):
            raise ValueError("write_documents takes a list of documents")
        read = [read_document(document, self.root_path) for document in documents]
        payloads = self.images.writer.read_payloads([each.uri for each in read])
        for each in read:
            self._check(each, payloads)
        stored = {each.id: each.uri for each in read if each.uri in payloads}
        stored |= self._find_named([each.id for each in read])
        chosen: dict[str, StoredDocument] = {}
        for each in read:
            there = each.id in stored or each.id in chosen
            if there and policy is DuplicatePolicy.FAIL:
                raise DuplicateDocumentError(
                    f"document {each.id} ({each.uri}) is stored already; choose another policy"
                )
            if not (there and policy is DuplicatePolicy.SKIP):
                chosen[each.id] = each
        self._write(list(chosen.values()), payloads)
        if left := {stored[name] for name in chosen if name in stored} - {each.uri for each in chosen.values()}:
            self.images.delete(uris=left)  # images of documents that have another one now
        return len(chosen) if policy is DuplicatePolicy.SKIP else len(documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Deletes the documents of these ids; those that are not there are passed over."""
        if points := self._find_points(document_ids):
            self.images.delete(uris=points)

    def delete_all_documents(self) -> None:
        """Deletes the whole collection; the next write creates it again."""
        self.images.drop()

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Deletes the documents that filters hold for, and gives their number. Raises Haystack's FilterError."""
        return _ask(lambda: self.images.delete(where=self._restrict(filters, "delete_all_documents() deletes all")))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Changes fields of the documents that filters hold for, and gives their number, without images that were so.

        What is changed stays whatever ingestion finds later. Raises Haystack's FilterError, MetadataError.
        """
        where = self._restrict(filters, 'ImageCollection.update_metadata(…, where="") changes all')
        texts: Where = {"and": [where, {"image.sha256": {"is null": True}}]}  # and images that came as vectors
        changed = [change_fields(each, meta) for each in _ask(lambda: [*self.images.writer.scan(texts)])]
        number = _ask(lambda: self.images.update_metadata(meta, where=where))
        self.images.writer.write_payloads(changed)
        return number + len(changed)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """The number of documents that filters hold for. Raises Haystack's FilterError."""
        return _ask(lambda: self.images.count(self.build_where(filters)))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """The number of different values of each field among the documents that filters hold for.

        For keyword, integer and bool fields, and 10,000 values at most. Raises Haystack's FilterError.
        """
        where = self.build_where(filters)
        return _ask(lambda: {name: len(list_values(self.images, field_name(name), where)) for name in metadata_fields})

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The metadata fields, and the type of each: `{"year": {"type": "integer"}}`."""
        return list_fields(self.images)

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and the greatest value of a number or a date; None without one. Raises Haystack's FilterError."""
        return _ask(lambda: find_limits(self.images, field_name(metadata_field)))

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """A page of the values of a keyword, integer or bool field, in order, and how many there are (10,000 at most).

        `search_term` keeps those that contain it, in whatever case. Raises Haystack's FilterError.
        """
        where = self.build_where(filters)
        values = _ask(lambda: list_values(self.images, field_name(metadata_field), where))
        if search_term:
            values = [value for value in values if search_term.casefold() in str(value).casefold()]
        return values[from_ : from_ + size], len(values)

    # The same for async code, each in a thread of asyncio's pool.
    count_documents_async = run_in_thread(count_documents)
    filter_documents_async = run_in_thread(filter_documents)
    write_documents_async = run_in_thread(write_documents)
    delete_documents_async = run_in_thread(delete_documents)
    delete_all_documents_async = run_in_thread(delete_all_documents)
    delete_by_filter_async = run_in_thread(delete_by_filter)
    update_by_filter_async = run_in_thread(update_by_filter)
    count_documents_by_filter_async = run_in_thread(count_documents_by_filter)
    count_unique_metadata_by_filter_async = run_in_thread(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = run_in_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = run_in_thread(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = run_in_thread(get_metadata_field_unique_values)

    def build_where(self, filters: Mapping[str, Any] | None) -> Where | None:
        """The condition of the collection that Haystack's filters describe. Raises Haystack's FilterError."""
        return build_where(filters, self._find_points, lambda name: path_uri(name, self.root_path))

    def make_document(self, hit: Hit) -> Document:
        """A hit of the collection as a document."""
        return make_document(hit, self.root_path)

    def _restrict(self, filters: dict[str, Any], otherwise: str) -> Where:
        where = self.build_where(filters)
        if where is None:
            raise HaystackFilterError(f"filters is empty: {filters!r}; {otherwise}")
        return where

    def _check(self, document: StoredDocument, payloads: Mapping[str, Any]) -> None:
        """Raises ConfigError for an embedding of another length, and for an image that is neither stored nor there."""
        dim = self.images.embedder.dim
        if document.vector is not None and len(document.vector) != dim:
            raise ConfigError(
                f"document {document.id} has an embedding of {len(document.vector)} numbers, and those of this "
                f"collection have {dim}: embed it by the model of the collection"
            )
        names_nothing = document.vector is None and document.image is None and not is_text(document.uri)
        if names_nothing and document.uri not in payloads:
            raise ConfigError(
                f"document {document.id} names the image {document.uri}, which is not stored, and brings none: nothing "
                "is fetched; give it a blob, a path in meta['file_path'], or an embedding"
            )

    def _write(self, documents: Sequence[StoredDocument], payloads: Mapping[str, Mapping[str, Any]]) -> None:
        """By what each document brings. `payloads` are those that are stored, by uri."""
        edits, brought, seen, texts, others = [], [], [], [], []
        for each in documents:
            there = payloads.get(each.uri, {})
            if each.names_image and there.get("image"):  # it came from here, and its image has not changed
                edits.append((there, list_changes(there, each.record.caption, each.record.metadata)))
            elif each.vector is not None:
                brought.append(each)
            elif each.image is not None:
                seen.append(each)
            elif is_text(each.uri):
                texts.append(each)
            else:  # stored as a vector, which stays
                others.append(each.record)
        embedder, writer = self.images.embedder, self.images.writer
        writer.look_again()
        records = [read_image(each, find_needed_side(embedder)) for each in brought]
        rows = [*(each.vector for each in brought), *embedder.embed_texts([str(each.record.caption) for each in texts])]
        edit_payloads(writer, [(there, changes) for there, changes in edits if changes])
        writer.write_payloads(others)
        if rows:
            writer.write([*records, *(each.record for each in texts)], np.stack(rows))  # (n, dim), float32
        if seen:
            self.images.add(
                [each.image for each in seen if each.image is not None],
                uris=[each.uri for each in seen],
                captions=[each.record.caption or "" for each in seen],
                metadata=[each.record.metadata for each in seen],
            )

    def _find_points(self, document_ids: Sequence[str]) -> list[str]:
        """The ids of the points that documents of these ids may be."""
        texts = [point_id(text_uri(each)) for each in document_ids]
        return [*texts, *filter(_is_point_id, document_ids), *map(point_id, self._find_named(document_ids).values())]

    def _find_named(self, document_ids: Sequence[str]) -> dict[str, str]:
        """The uris of images that keep one of these ids in their metadata, by id."""
        found: dict[str, str] = {}
        for some in batches(document_ids, IDS_PER_CALL):
            try:
                for payload in self.images.writer.scan({DOCUMENT_ID: some}, parts=["uri", f"metadata.{DOCUMENT_ID}"]):
                    found[payload["metadata"][DOCUMENT_ID]] = payload["uri"]
            except FilterError as error:
                if error.unknown_field is None:
                    raise
                return {}  # no image has one
        return found


def _ask(ask: Callable[[], _Result]) -> _Result:
    """What is asked of a collection; Haystack's FilterError for what it cannot filter by."""
    try:
        return ask()
    except FilterError as error:
        raise HaystackFilterError(str(error)) from error


def _is_point_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name.lower()
    except ValueError:
        return False
