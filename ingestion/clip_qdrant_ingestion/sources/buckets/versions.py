"""Size, version and time of an object, which each file system of fsspec gives under names of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

__all__ = ["etag_of", "moment_of", "mtime_of", "size_of"]

# By s3, gs, az, hf and others.
_SIZES = ("size", "Size")
_ETAGS = ("etag", "ETag", "md5Hash", "md5", "content_md5", "blob_id")
_MOMENTS = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


def size_of(info: Mapping[str, Any]) -> Any:
    """Bytes."""
    return _first(info, _SIZES)


def etag_of(info: Mapping[str, Any]) -> str | None:
    """The version, without the quotes of HTTP."""
    etag = _first(info, _ETAGS)
    return None if etag is None else str(etag).strip('"')


def moment_of(info: Mapping[str, Any]) -> Any:
    """When it was written, as the file system says it."""
    return _first(info, _MOMENTS)


def mtime_of(info: Mapping[str, Any]) -> Any:
    """When it was written, in seconds since 1970."""
    moment = moment_of(info)
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return moment.timestamp() if isinstance(moment, datetime) else moment


def _first(info: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((info[name] for name in names if info.get(name) is not None), None)
