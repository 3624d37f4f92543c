"""A source held to what may be read: a table may name any image, and a link lead anywhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from clip_qdrant.errors import SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant_ingestion.sources.protocol import Page, Problem, Source, SourceObject
from clip_qdrant_ingestion.sources.view import SourceView

__all__ = ["ConfinedSource"]


class ConfinedSource(SourceView):
    """A source without the objects whose uri is not allowed, which become problems."""

    def __init__(self, source: Source, allows: Callable[[str], bool]) -> None:
        super().__init__(source)
        self._allows = allows

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        for page in self._source.pages(folders):
            kept, refused = [], []
            for item in page.objects:
                if self._allows(item.uri):
                    kept.append(item)
                else:
                    refused.append(Problem(item.uri, "not allowed", _explain(item)))
            yield replace(page, objects=kept, problems=[*page.problems, *refused])

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        if not self._allows(item.uri):  # a link that was put there since
            raise SourceError(_explain(item))
        return super().read(item, limits=limits)


def _explain(item: SourceObject) -> str:
    return f"{mask_secrets(item.uri)} lies outside of what may be read here"
