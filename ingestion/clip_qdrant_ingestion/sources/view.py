"""A view of a source: what it lists is its own, all else is as in the source below."""

from __future__ import annotations

from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion.sources.places import has_many_places, is_gone
from clip_qdrant_ingestion.sources.protocol import Source, SourceObject

__all__ = ["SourceView"]


class SourceView:
    """All of a `Source`, and of `KnowsPlaces`, but `pages`."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def reads_at_once(self) -> int:
        return self._source.reads_at_once

    def look(self, item: SourceObject) -> SourceObject:
        return self._source.look(item)

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        return self._source.read(item, limits=limits)

    @property
    def many_places(self) -> bool:
        return has_many_places(self._source)

    def is_gone(self, uri: str) -> bool | None:
        return is_gone(uri, self._source)
