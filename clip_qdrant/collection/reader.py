"""What a collection is asked: points by id, pages of payloads, and conditions on fields that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from qdrant_client import models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.models import QueryResponse  # models.QueryResponse is another one, of fastembed

from clip_qdrant.collection.description import CollectionDescription
from clip_qdrant.collection.points import batches
from clip_qdrant.collection.strict_mode import StrictMode
from clip_qdrant.errors import CollectionNotFound, FilterError, StoreError, StoreUnavailable
from clip_qdrant.fields.types import METADATA_PREFIX, FieldType
from clip_qdrant.filters.build import Where, build_filter

__all__ = ["IDS_PER_CALL", "CollectionReader"]

_T = TypeVar("_T")
IDS_PER_CALL = 1000


class CollectionReader:
    """Reads one collection, for those who search it and those who write it. May be called from several threads."""

    def __init__(self, client: QdrantBase, description: CollectionDescription) -> None:
        self.client = client
        self.description = description
        self.name = description.name

    def read_if_there(self, read: Callable[[], _T], *, otherwise: _T) -> _T:
        """What `read` gives; `otherwise` where there is no collection yet, or it is gone meanwhile.

        Raises FingerprintMismatch where it was made anew meanwhile for vectors of another size.
        """
        if not self.description.is_there():
            return otherwise
        try:
            return read()
        except CollectionNotFound:
            self.description.forget()
            return otherwise
        except StoreUnavailable:
            raise
        except StoreError:  # perhaps the collection was made anew, for vectors of another size
            self.description.open()
            raise

    def retrieve(
        self, ids: Sequence[Any], *, with_payload: bool | list[str] = False, with_vectors: bool = False
    ) -> Iterator[models.Record]:
        for chunk in batches(ids, IDS_PER_CALL):
            yield from self._retrieve_chunk(chunk, with_payload, with_vectors)

    def _retrieve_chunk(
        self, ids: list[Any], with_payload: bool | list[str], with_vectors: bool
    ) -> list[models.Record]:
        return self.description.ask(
            lambda: self.client.retrieve(self.name, ids=ids, with_payload=with_payload, with_vectors=with_vectors),
            what=f"reading from collection {self.name!r}",
        )

    def scroll(
        self,
        selection: models.Filter | None,
        offset: Any,
        with_payload: bool | list[str],
        with_vectors: bool,
        *,
        limit: int = IDS_PER_CALL,
    ) -> tuple[list[models.Record], Any]:
        return self.description.ask_within_limits(
            lambda strict: self.client.scroll(
                self.name,
                scroll_filter=selection,
                limit=min(limit, strict.page or limit),
                offset=offset,
                with_payload=with_payload,
                with_vectors=with_vectors,
            ),
            what=f"reading from collection {self.name!r}",
        )

    def query(self, ask: Callable[[int, int], QueryResponse], *, limit: int, offset: int) -> list[models.ScoredPoint]:
        """The points of `ask(limit, offset)`, in as many calls as the server's limit of points a call asks for."""
        found: list[models.ScoredPoint] = []
        while True:
            seen = len(found)

            def ask_page(strict: StrictMode, seen: int = seen) -> tuple[int, list[models.ScoredPoint]]:
                size = min(limit - seen, strict.page or limit)
                return size, ask(size, offset + seen).points

            what = f"searching collection {self.name!r}"
            size, points = self.description.ask_within_limits(ask_page, what=what)
            found += points
            if len(found) >= limit or len(points) < size:
                return found

    def count(self, selection: models.Filter | None) -> int:
        """How many points pass a filter; about, where the server refuses exact counts."""
        return self.description.ask_within_limits(
            lambda strict: self.client.count(self.name, count_filter=selection, exact=strict.exact),
            what=f"counting in collection {self.name!r}",
        ).count

    def count_exactly(self, selection: models.Filter) -> int:
        """The same, exact everywhere: page by page where it must be."""
        number = self.count(selection)
        if self.description.strict.exact:
            return number
        number, offset = 0, None
        while True:
            records, offset = self.scroll(selection, offset, False, False)
            number += len(records)
            if offset is None:
                return number

    def build_filter(self, where: Where | None) -> models.Filter | None:
        """See `filters.build.build_filter`; None for no condition. Raises FilterError."""
        if where is None:
            return None
        return self.resolve(lambda fields: build_filter(where, fields))

    def resolve(self, find: Callable[[Mapping[str, FieldType]], _T]) -> _T:
        """Finds fields by name; before one is refused, looks whether another process has added it meanwhile."""
        try:
            return find(self.description.filterable)
        except FilterError as error:
            if error.unknown_field is None:
                raise
            known = self.description.filterable
            self.description.open()
            now = self.description.filterable
            bare = self.description.payload_fields.keys() - now.keys()
            if bare & {error.unknown_field, METADATA_PREFIX + error.unknown_field}:
                raise FilterError(
                    f"field {error.unknown_field!r} has no payload index, and the server allows no filter without one "
                    "(strict mode): `clip-qdrant info` says why, and what to do",
                    unknown_field=error.unknown_field,
                ) from error
            if now == known:
                raise
            return find(now)
