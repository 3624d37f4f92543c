"""What a collection says of itself, kept as metadata of the Qdrant collection, and its payload indexes.

    {"clip_qdrant": {"format": 3, "fingerprint": …, "model": "bundled", "dim": …, "distance": "Cosine",
                     "fields": {"year": "integer", …}}}

A new field gets its index first, then its entry in `fields`, and only then come images that have it. A crash or a
second writer in between leaves an index without an entry, never the other way round; opening reads both, and the next
write completes what is missing.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.calibration.curves import Calibration
from clip_qdrant.collection.indexing import explain_indexing
from clip_qdrant.collection.options import CollectionOptions
from clip_qdrant.collection.relevance.stored import read_calibration
from clip_qdrant.collection.strict_mode import StrictMode, choose_indexes, explain_missing
from clip_qdrant.collection.text.vectors import TEXT_VECTOR, sparse_params
from clip_qdrant.embedder_protocol import describe_embedder
from clip_qdrant.errors import (
    CollectionExists,
    CollectionNotFound,
    ConfigError,
    FingerprintMismatch,
    StoreError,
    StoreUnavailable,
    TooFewIndexes,
)
from clip_qdrant.fields.derived import index_keys
from clip_qdrant.fields.schema import CheckedMetadata, Schema, index_params
from clip_qdrant.fields.types import FIELD_TYPES, METADATA_PREFIX, FieldType
from clip_qdrant.fields.words import words_key
from clip_qdrant.store.calls import call

if TYPE_CHECKING:
    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["FORMAT", "CollectionDescription"]

FORMAT = 3
_KEY = "clip_qdrant"
_ATTEMPTS = 5
_OPENING_PATIENCE = 2.0  # seconds
_INDEXING_PATIENCE = 60.0  # seconds; a server that limits writes a minute (write_rate_limit) counts each index

_T = TypeVar("_T")

# Creating and extending are rare; one lock for the process also covers two ImageCollections of the same name.
_changing = threading.Lock()
# A QdrantClient without a server is not thread-safe: a search during an upsert reads beyond its arrays.
_in_process = threading.RLock()
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of the collection, replaced as a whole so that other threads never see half of a change."""

    exists: bool
    schema: Schema
    stored: Mapping[str, FieldType] = field(default_factory=dict)  # the entries of `fields`
    indexed: frozenset[str] = frozenset()  # full payload keys
    payload_fields: Mapping[str, FieldType] = field(default_factory=dict)
    unindexed: str | None = None  # told of in `notes`, as is `lacking`
    lacking: str | None = None
    calibration: Calibration | None = None
    strict: StrictMode = field(default_factory=StrictMode)
    to_index: tuple[str, ...] = ()  # indexes that are missing and may be made

    @property
    def complete(self) -> bool:
        return self.exists and self.stored == self.schema.fields and not self.to_index


class CollectionDescription:
    """What one collection says of itself, read when this is made; `prepare` creates and extends the collection.

    Raises FingerprintMismatch if the collection was made by another embedder, StoreError if it was not made by
    this package, ConfigError if a declared field has another type there.
    """

    def __init__(
        self, name: str, client: QdrantBase, embedder: Embedder, *, declared: Schema, options: CollectionOptions
    ) -> None:
        self.name = name
        self._client = client
        self._fingerprint = embedder.fingerprint
        self._model: str | None = getattr(embedder, "name", None)
        self._dim = embedder.dim
        self._declared = declared
        self._options = options
        self._patience = min(options.patience, _OPENING_PATIENCE)  # so that a wrong address is refused soon
        self._in_process = _is_in_process(client)
        self._state = self._absent()
        self.open()
        self._patience = options.patience

    @property
    def exists(self) -> bool:
        """Whether the collection was there when last looked at."""
        return self._state.exists

    @property
    def schema(self) -> Schema:
        return self._state.schema

    @property
    def payload_fields(self) -> Mapping[str, FieldType]:
        return self._state.payload_fields

    @property
    def strict(self) -> StrictMode:
        """The limits that the server set to the collection, as they were when it was last looked at."""
        return self._state.strict

    @property
    def filterable(self) -> Mapping[str, FieldType]:
        """The fields that a filter may name: all, or those with an index where the server asks for one."""
        state = self._state
        if state.strict.unindexed or not state.exists:
            return state.payload_fields
        fields = state.payload_fields.items()
        return {key: kind for key, kind in fields if index_keys(key, kind).keys() <= state.indexed}

    @property
    def compares_all(self) -> bool:
        """Whether the client compares all vectors whatever it is told (QdrantClient without a server)."""
        return self._in_process

    @property
    def calibration(self) -> Calibration | None:
        """What the collection itself says a cosine similarity is worth."""
        return self._state.calibration

    @property
    def notes(self) -> tuple[str, ...]:
        """What keeps the collection from working as it should, each with what to do."""
        return tuple(note for note in (self._state.unindexed, self._state.lacking) if note is not None)

    def ask(self, operation: Callable[[], _T], *, what: str) -> _T:
        """Calls one method of the client by `store.calls.call`; a client without a server by one thread at a time."""
        with _in_process if self._in_process else nullcontext():
            return call(operation, what=what, patience=self._patience, stopped=self._options.stopped)

    def ask_within_limits(self, operation: Callable[[StrictMode], _T], *, what: str) -> _T:
        """`ask` for a call that strict mode limits; where it is refused, the limits may be new, and are read again."""
        strict = self._state.strict
        try:
            return self.ask(lambda: operation(strict), what=what)
        except (StoreUnavailable, CollectionNotFound):
            raise
        except StoreError:
            self.open()
            now = self._state.strict
            if now == strict:
                raise
            return self.ask(lambda: operation(now), what=what)

    def expect(self, fields: Mapping[str, FieldType]) -> None:
        """Types for fields that may come: a new field gets the type named here if its first values fit it."""
        self._declared = replace(self._declared, expected={**self._declared.expected, **fields})
        self._state = replace(self._state, schema=replace(self._state.schema, expected=self._declared.expected))

    def open(self) -> bool:
        """Reads the description (one client call). Returns whether the collection is there."""
        try:
            info = self.ask(lambda: self._client.get_collection(self.name), what=f"opening collection {self.name!r}")
        except CollectionNotFound:
            self._state = self._absent()
            return False
        stored = self._check(info)
        indexed = frozenset(info.payload_schema or {})
        fields = {**_list_indexed_fields(info.payload_schema or {}), **stored}
        for name, declared in self._declared.fields.items():
            there = fields.setdefault(name, declared)
            if there != declared:
                raise ConfigError(
                    f"field {name!r} is declared as {declared}, but collection {self.name!r} has it as {there}; "
                    "declare it so, or use another name"
                )
        schema = replace(self._declared, fields=fields)
        payload_fields = schema.payload_fields()
        if self._in_process:
            indexed = frozenset(schema.indexes())
        strict, indexes = StrictMode.read(info.config), schema.indexes()
        missing = [key for key in indexes if key not in indexed]
        lacking = explain_missing(self.name, missing, len(indexes), strict)
        unindexed = explain_indexing(info.config)
        self._state = _State(
            True,
            schema,
            stored,
            indexed,
            payload_fields,
            calibration=read_calibration(info.config),
            unindexed=None if unindexed is None else f"collection {self.name!r} is {unindexed}",
            lacking=lacking,
            strict=strict,
            to_index=tuple(missing),
        )
        if missing and strict.indexes is not None:
            with contextlib.suppress(TooFewIndexes):  # told when somebody writes
                may = choose_indexes(indexes, indexed, strict, first=self._options.indexes)
                self._state = replace(self._state, to_index=tuple(may))
        return True

    def is_there(self) -> bool:
        """Whether the collection is there; looks again if it was not before."""
        return self.exists or self.open()

    def forget(self) -> None:
        """Notes that the collection is gone."""
        self._state = self._absent()

    def prepare(self, metadatas: Sequence[Mapping[str, Any]], *, uris: Sequence[str]) -> list[CheckedMetadata]:
        """The metadata as it is to be stored, after making the collection fit to hold it.

        Everything is checked before anything changes. Raises MetadataError, StoreError.
        """
        state = self._state
        extended, rows = _admit(state.schema, metadatas, uris)
        if state.complete and extended.fields == state.schema.fields:
            return rows
        with _changing:
            if not self.open():
                self._create(extended)
            for _ in range(_ATTEMPTS):
                # The fields of other writers have come in, so the types may be others than they were above.
                extended, rows = _admit(self.schema, metadatas, uris)
                self._index(extended)
                if extended.fields == self._state.stored:
                    return rows
                self._describe(extended)
                self.open()
        raise StoreError(
            f"the fields of collection {self.name!r} change under other writers faster than they can be read; try again"
        )

    def _absent(self) -> _State:
        return _State(False, self._declared, payload_fields=self._declared.payload_fields())

    def _check(self, info: models.CollectionInfo) -> dict[str, FieldType]:
        """The field types in the collection's description, once it is known to be ours and of this embedder."""
        profile = (info.config.metadata or {}).get(_KEY)
        if not isinstance(profile, Mapping):
            raise StoreError(
                f"collection {self.name!r} was not made by clip_qdrant: it does not say which embedder its vectors "
                "come from; use another collection name"
            )
        if profile.get("format") != FORMAT:
            raise StoreError(
                f"collection {self.name!r} has layout {profile.get('format')!r}, this version of clip_qdrant reads "
                f"{FORMAT}; install the version that made it, or ingest into another collection"
            )
        theirs, dim = str(profile.get("fingerprint")), profile.get("dim")
        if theirs != self._fingerprint or dim != self._dim:
            model = profile.get("model")
            made_by = describe_embedder(theirs, model, dim)
            raise FingerprintMismatch(
                f"collection {self.name!r} was made by embedder {made_by}, not by the one at hand, "
                f"{describe_embedder(self._fingerprint, self._model, self._dim)}; {self._find_model(model)}, ingest "
                "into another collection (--collection), or delete this one (clip-qdrant drop) and ingest again"
            )
        vectors = info.config.params.vectors
        if not isinstance(vectors, models.VectorParams) or vectors.size != self._dim:
            raise StoreError(
                f"collection {self.name!r} does not have the one unnamed vector of {self._dim} dimensions that its "
                "description promises; delete it (clip-qdrant drop) and ingest again"
            )
        if TEXT_VECTOR not in (info.config.params.sparse_vectors or {}):
            raise StoreError(
                f"collection {self.name!r} has no sparse vector {TEXT_VECTOR!r} for the words of its images; "
                "delete it (clip-qdrant drop) and ingest again"
            )
        return dict(profile.get("fields") or {})

    def _find_model(self, model: object) -> str:
        """What to do to have the model that made the collection, by the name of it that it keeps, if any."""
        if not isinstance(model, str):
            return "take the model that made it (--model)"
        if model == self._model:
            return f"{model} was another model when it did: take that one (--model)"
        return f"take the model that made it (--model {shlex.quote(model)})"

    def _profile(self, schema: Schema) -> dict[str, Any]:
        return {
            _KEY: {
                "format": FORMAT,
                "fingerprint": self._fingerprint,
                **({} if self._model is None else {"model": self._model}),
                "dim": self._dim,
                "distance": models.Distance.COSINE.value,
                "fields": dict(schema.fields),
            }
        }

    def _create(self, schema: Schema) -> None:
        vectors = models.VectorParams(size=self._dim, distance=models.Distance.COSINE)
        try:
            self.ask(
                lambda: self._client.create_collection(
                    self.name,
                    vectors_config=vectors,
                    sparse_vectors_config=sparse_params(),
                    metadata=self._profile(schema),
                    **self._options.spread(),
                ),
                what=f"creating collection {self.name!r}",
            )
        except CollectionExists:
            _log.info("collection %r was created by another writer meanwhile", self.name)
        self.open()

    def _index(self, schema: Schema) -> None:
        """Creates the payload indexes that are missing; one that is there already is no error to any client."""
        if self._in_process:  # it keeps no payload indexes, and warns when asked to
            return
        indexes = schema.indexes()
        chosen = choose_indexes(indexes, self._state.indexed, self._state.strict, first=self._options.indexes)
        for key in chosen:
            self._create_index(key, indexes[key])
        indexed = self._state.indexed.union(chosen)
        left = [key for key in indexes if key not in indexed]
        lacking = explain_missing(self.name, left, len(indexes), self._state.strict)
        if chosen and lacking is not None:
            _log.warning("%s", lacking)
        self._state = replace(self._state, indexed=indexed, to_index=(), lacking=lacking)

    def _create_index(self, key: str, kind: FieldType) -> None:
        call(
            lambda: self._client.create_payload_index(self.name, key, field_schema=index_params(kind), wait=True),
            what=f"indexing {key!r} in collection {self.name!r}",
            patience=max(self._patience, _INDEXING_PATIENCE),
            stopped=self._options.stopped,
        )

    def _describe(self, schema: Schema) -> None:
        self.ask(
            lambda: self._client.update_collection(self.name, metadata=self._profile(schema)),
            what=f"describing collection {self.name!r}",
        )


def _admit(
    schema: Schema, metadatas: Sequence[Mapping[str, Any]], uris: Sequence[str]
) -> tuple[Schema, list[CheckedMetadata]]:
    extended = schema.extend(metadatas, uris=uris)
    rows = [extended.normalise(metadata, uri=uri) for metadata, uri in zip(metadatas, uris, strict=True)]
    return extended, rows


def _list_indexed_fields(payload_schema: Mapping[str, models.PayloadIndexInfo]) -> dict[str, FieldType]:
    """Metadata fields that have an index: those whose entry was lost or not yet written are found here."""
    found: dict[str, FieldType] = {
        key.removeprefix(METADATA_PREFIX): info.data_type.value
        for key, info in payload_schema.items()
        if key.startswith(METADATA_PREFIX) and info.data_type.value in FIELD_TYPES
    }
    start, end = words_key(METADATA_PREFIX + "*").split("*")
    found.update(
        {key[len(start) : -len(end)]: "text" for key in payload_schema if key.startswith(start) and key.endswith(end)}
    )
    return found


def _is_in_process(client: QdrantBase) -> bool:
    """Whether this is a QdrantClient without a server (":memory:" or path=)."""
    options: Mapping[str, Any] = getattr(client, "init_options", None) or {}
    return options.get("location") == ":memory:" or options.get("path") is not None
