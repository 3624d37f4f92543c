"""Whether an object is the one that was met before: its etag decides or, where there is none, its size and date."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from clip_qdrant.fields.values import same_json

__all__ = ["is_same_version"]


class _Versioned(Protocol):
    """An object as a listing shows it."""

    @property
    def etag(self) -> str | None: ...

    @property
    def size(self) -> int | None: ...

    @property
    def mtime(self) -> float | None: ...


def is_same_version(listed: _Versioned, stored: Mapping[str, Any]) -> bool:
    """Whether the bytes must be those that `stored`, with etag, size and mtime, was written for, by whatever source.

    False where it cannot be told.
    """
    if listed.etag is not None:
        return listed.etag == stored.get("etag") and listed.size == stored.get("size")
    mtime = stored.get("mtime")
    if listed.size is None or listed.mtime is None or mtime is None:
        return False
    return listed.size == stored.get("size") and same_json(float(listed.mtime), float(mtime))
