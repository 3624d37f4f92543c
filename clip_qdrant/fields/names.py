"""Names of payload fields: JSON paths, as Qdrant writes them.

`exif.camera` is the key `camera` in the dict `exif`. A key with other characters than letters, digits, _ and -
stands in double quotes: `"odd name"`. No key has a double quote or a backslash in it: Qdrant's
paths know no escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["canonical_name", "join_path", "split_path"]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r'"([^"\\]+)"|([^".\\]+)')


def split_path(name: str) -> list[str]:
    """The nested keys of a path; ValueError for text that is none: empty, `a..b`, an odd double quote, a backslash."""
    keys: list[str] = []
    start = 0
    while True:
        match = _PART.match(name, start)
        if match is None:
            break
        keys.append(match[1] or match[2])
        start = match.end()
        if start == len(name):
            return keys
        if name[start] != ".":
            break
        start += 1
    raise ValueError(f"{name!r} is not a field name")


def join_path(keys: Iterable[str]) -> str:
    """The path of nested keys."""
    return ".".join(key if _PLAIN_KEY.fullmatch(key) else f'"{key}"' for key in keys)


@lru_cache(maxsize=1024)  # each test of each search has one
def canonical_name(name: str) -> str:
    """The one spelling of a path: `odd name` becomes `"odd name"`, `"year"` becomes `year`. ValueError for none."""
    return join_path(split_path(name))
