"""Previews of images that are no files of this computer: members of tar archives, and objects in buckets.

They are read where the collection says that they lie, with this computer's credentials, within limits of time and size.
Nothing is fetched from the web, and what cannot be read has no preview.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Protocol

from clip_qdrant.image_names import member_of
from clip_qdrant.images.load import Limits
from clip_qdrant.pages.thumbnails import PREVIEW_SIDE, make_thumbnail
from clip_qdrant.uris import path_of
from clip_qdrant_ingestion.sources.archives.archive import ShardSource
from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
from clip_qdrant_ingestion.sources.protocol import Source, SourceObject
from clip_qdrant_ingestion.sources.schemes import scheme_of

__all__ = ["make_previews"]

logger = logging.getLogger(__name__)

_BUCKETS = ("s3", "gs", "az", "hf")  # a collection may name what its writer liked: no other hosts, no local services
_AT_ONCE = 8
_MOST = 500
_LARGEST_COMPRESSED = 64 << 20  # bytes of an archive that has to be read from its beginning


class StoredImage(Protocol):
    """What a `Hit` says of where its image lies."""

    @property
    def uri(self) -> str: ...
    @property
    def payload(self) -> Mapping[str, Any]: ...


def make_previews(
    images: Iterable[StoredImage],
    *,
    limits: Limits,
    endpoint_url: str | None = None,
    seconds: float = 20.0,
    side: int = PREVIEW_SIDE,
) -> dict[str, str]:
    """Thumbnails by uri, as data: uris of JPEG of at most `side` x `side` pixels, of those images that could be read
    within so many seconds.
    """
    end = time.monotonic() + seconds
    options = {"endpoint_url": endpoint_url} if endpoint_url else {}

    def preview(image: StoredImage) -> str | None:
        if time.monotonic() > end:
            return None
        try:
            data = _read(image, limits, options)
        except Exception as error:  # noqa: BLE001  a page is shown without the pictures that cannot be read
            logger.debug("no preview of %s: %s", image.uri, error)
            return None
        return None if data is None else make_thumbnail(data, side=side)

    wanted = {image.uri: image for image in images if _is_readable(image.uri)}
    pool = ThreadPoolExecutor(_AT_ONCE, "preview")
    futures = {uri: pool.submit(preview, wanted[uri]) for uri in list(wanted)[:_MOST]}
    wait(futures.values(), timeout=seconds)
    pool.shutdown(wait=False, cancel_futures=True)
    found = {uri: future.result() for uri, future in futures.items() if future.done() and not future.cancelled()}
    return {uri: thumbnail for uri, thumbnail in found.items() if thumbnail is not None}


def _is_readable(uri: str) -> bool:
    scheme, place = scheme_of(uri), uri.partition("://")[2]
    if scheme == "file":
        return member_of(uri) is not None and path_of(uri) is not None
    return scheme in _BUCKETS and "::" not in place and "@" not in place.partition("/")[0]


def _read(image: StoredImage, limits: Limits, options: Mapping[str, Any]) -> bytes | None:
    stored = image.payload.get("source") or {}
    size, etag = stored.get("size"), stored.get("etag")
    if size is not None and size > limits.max_bytes:
        return None
    source: Source
    if member_of(image.uri) is not None:
        archive = image.uri.partition("#")[0]
        path = path_of(archive)
        if not archive.lower().endswith(".tar") and (path is None or path.stat().st_size > _LARGEST_COMPRESSED):
            return None
        source = ShardSource(archive, storage_options=options, patience=0)
        return source.read(SourceObject(image.uri, "", size, None, etag), limits=limits)
    scheme, _, place = image.uri.partition("://")
    bucket, _, key = place.partition("/")
    source = BucketSource(f"{scheme}://{bucket}", storage_options=options, patience=0)
    return source.read(SourceObject(image.uri, key, size), limits=limits)
