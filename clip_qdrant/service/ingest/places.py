"""Places that runs may take images from: a source is refused unless it lies at or below one of them.

A table may name any image, and a link lead anywhere, so the objects of a source are held to the places too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from clip_qdrant.errors import SourceError
from clip_qdrant.uris import lower_scheme, path_of
from clip_qdrant.url_secrets import mask_secrets

if TYPE_CHECKING:
    from clip_qdrant.images.load import Limits
    from clip_qdrant_ingestion.sources.protocol import Page, Source, SourceObject

__all__ = ["ConfinedSource", "Places"]

_PARTS = re.compile(r"[/\\{},?#]")
_WEB = ("http://", "https://")


class Places:
    """Folders, and beginnings of addresses: `/srv/photos`, `s3://bucket/photos`, `https://host/photos`."""

    def __init__(self, places: Sequence[str]) -> None:
        named = [lower_scheme(place) for place in places]
        self._folders = [Path(os.path.realpath(path_of(place) or place)) for place in named if _is_local(place)]
        self._prefixes = [f"{place.rstrip('/')}/" for place in named if not _is_local(place)]

    def __bool__(self) -> bool:
        return bool(self._folders or self._prefixes)

    def contains(self, location: str) -> bool:
        """Whether a location, or the uri of an object, lies at or below one of the places, links followed."""
        location = lower_scheme(location)
        if "\0" in location or ".." in _PARTS.split(unquote(location)):
            return False  # a step up: in a pattern, or one that only another program would take
        if _is_local(location):
            path = Path(os.path.realpath(path_of(location) or location))
            return any(path.is_relative_to(folder) for folder in self._folders)
        return "::" not in location and any(f"{location.rstrip('/')}/".startswith(prefix) for prefix in self._prefixes)


def _is_local(place: str) -> bool:
    return "://" not in place or place.startswith("file:")


class ConfinedSource:
    """A source without the objects that lie elsewhere, which become problems. What is on the web is left to the guard
    of the fetcher, which asks public hosts alone.
    """

    def __init__(self, source: Source, places: Places) -> None:
        self._source = source
        self._places = places

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def reads_at_once(self) -> int:
        return self._source.reads_at_once

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        from clip_qdrant_ingestion.sources.protocol import Problem

        for page in self._source.pages(folders):
            kept = [item for item in page.objects if self._allows(item.uri)]
            if len(kept) == len(page.objects):
                yield page
                continue
            inside = {item.uri for item in kept}
            refused = [
                Problem(item.uri, "not allowed", f"{mask_secrets(item.uri)} lies outside of what the service may read")
                for item in page.objects
                if item.uri not in inside
            ]
            yield replace(page, objects=kept, problems=[*page.problems, *refused])

    def look(self, item: SourceObject) -> SourceObject:
        return self._source.look(item)

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        if not self._allows(item.uri):  # a link that was put there since
            raise SourceError(f"{mask_secrets(item.uri)} lies outside of what the service may read")
        return self._source.read(item, limits=limits)

    @property
    def many_places(self) -> bool:
        from clip_qdrant_ingestion.sources.places import has_many_places

        return has_many_places(self._source)

    def is_gone(self, uri: str) -> bool | None:
        from clip_qdrant_ingestion.sources.places import is_gone

        return is_gone(uri, self._source)

    def _allows(self, uri: str) -> bool:
        return uri.startswith(_WEB) or self._places.contains(uri)
