"""What a collection is asked: points by id, pages of payloads, and conditions on fields that it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.description import CollectionDescription
from clip_qdrant.collection.points import batches
from clip_qdrant.errors import FilterError
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

    def retrieve(
        self, ids: Sequence[str], *, with_payload: bool = False, with_vectors: bool = False
    ) -> Iterator[models.Record]:
        for chunk in batches(ids, IDS_PER_CALL):
            yield from self._retrieve_chunk(chunk, with_payload, with_vectors)

    def _retrieve_chunk(self, ids: list[str], with_payload: bool, with_vectors: bool) -> list[models.Record]:
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
        return self.description.ask(
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

    def build_filter(self, where: Where | None) -> models.Filter | None:
        """See `filters.build.build_filter`; None for no condition. Raises FilterError."""
        if where is None:
            return None
        return self.resolve(lambda: build_filter(where, self.description.payload_fields))

    def resolve(self, find: Callable[[], _T]) -> _T:
        """Finds fields by name; before one is refused, looks whether another process has added it meanwhile."""
        try:
            return find()
        except FilterError as error:
            if error.unknown_field is None:
                raise
            known = self.description.payload_fields
            self.description.open()
            if self.description.payload_fields == known:
                raise
            return find()
