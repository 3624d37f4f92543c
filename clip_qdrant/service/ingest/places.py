"""Places that runs may take images from: a source is refused unless it lies at or below one of them.

So are the objects of a table, which may name any image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from clip_qdrant.uris import lower_scheme, path_of

__all__ = ["Places"]

_PARTS = re.compile(r"[/\\{},?#]")
# A dot of its own beside a brace: with another one it may become a step up.
_LONE_DOT = re.compile(r"[{},]\.(?![^/\\{},?#])|(?<![^/\\{},?#])\.[{},]")
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
        """Whether a location lies at or below one of the places, links followed."""
        location = lower_scheme(location)
        plain = unquote(location)
        if "\0" in location or ".." in _PARTS.split(plain) or _LONE_DOT.search(plain):
            return False  # a step up: in a pattern, or one that only another program would take
        if _is_local(location):
            path = Path(os.path.realpath(path_of(location) or location))
            return any(path.is_relative_to(folder) for folder in self._folders)
        return "::" not in location and any(f"{location.rstrip('/')}/".startswith(prefix) for prefix in self._prefixes)

    def allows(self, uri: str) -> bool:
        """The same of an object of a source. What is on the web is left to the guard of the fetcher, which asks public
        hosts alone.
        """
        return uri.startswith(_WEB) or self.contains(uri)


def _is_local(place: str) -> bool:
    return "://" not in place or place.startswith("file:")
