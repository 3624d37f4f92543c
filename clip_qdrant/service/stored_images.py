"""StoredImages: the files of stored images, read anew where they lie, and thumbnails of them.

A payload is nothing but what its writer said, so the file at a uri is given away only if its bytes are those that were
stored: a point that names another file of this computer gives nobody that file, nor tells whether there is one.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping

from clip_qdrant.collection.hits import Hit
from clip_qdrant.errors import ImageError, NotServed, SourceError
from clip_qdrant.image_names import member_of
from clip_qdrant.images.load import Limits, read_bytes
from clip_qdrant.pages.thumbnails import encode_thumbnail
from clip_qdrant.uris import path_of
from clip_qdrant.web.fetch import Fetcher

__all__ = ["StoredImages", "media_type_of", "sha256_of"]

_SHA256 = re.compile("[0-9a-f]{64}")
_MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "JPEG2000": "image/jp2",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
}


class StoredImages:
    """Reads within `limits`. Thumbnails are kept in `cache_bytes` of memory, those asked for last."""

    def __init__(self, fetcher: Fetcher, *, limits: Limits, cache_bytes: int) -> None:
        self._fetcher = fetcher
        self._limits = limits
        self._cache_bytes = cache_bytes
        self._size = 0
        self._lock = threading.Lock()
        self._thumbnails: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def read(self, hit: Hit) -> bytes:
        """The file of a stored image. Raises NotServed for one that this computer cannot read, or that has changed."""
        sha256 = sha256_of(hit)
        content = None
        with contextlib.suppress(SourceError, ImageError):  # what is wrong there is nobody's business
            content = self._read_place(hit.uri)
        if content is None or hashlib.sha256(content).hexdigest() != sha256:
            raise NotServed(
                f"the file of image {hit.id} is not where it was, or has changed since it was stored: ingest it again"
            )
        return content

    def make_thumbnail(self, hit: Hit, *, side: int) -> bytes:
        """A JPEG of at most `side` x `side` pixels. Raises NotServed, ImageError."""
        key = sha256_of(hit), side
        with self._lock:
            if key in self._thumbnails:
                self._thumbnails.move_to_end(key)
                return self._thumbnails[key]
        jpeg = encode_thumbnail(self.read(hit), side=side, limits=self._limits)
        with self._lock:
            self._size += len(jpeg) - len(self._thumbnails.pop(key, b""))  # two may have made it
            self._thumbnails[key] = jpeg
            while self._size > self._cache_bytes:
                self._size -= len(self._thumbnails.popitem(last=False)[1])
        return jpeg

    def _read_place(self, uri: str) -> bytes:
        path = path_of(uri)
        if path is not None and member_of(uri) is None:
            return read_bytes(path, limits=self._limits)
        if uri.startswith(("http://", "https://")) and member_of(uri) is None:
            return self._fetcher.fetch(uri, limits=self._limits)
        where = "in an archive" if member_of(uri) else f"at {uri.partition(':')[0]}:" if uri else "nowhere"
        raise NotServed(f"only files and images of the web can be shown, and this image lies {where}")


def sha256_of(hit: Hit) -> str:
    """The SHA-256 of the file that was stored, in hex. Raises NotServed for a point that does not tell it."""
    image = hit.payload.get("image")
    sha256 = image.get("sha256") if isinstance(image, Mapping) else None
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise NotServed(f"point {hit.id} does not tell which bytes its image had, so that none can be shown")
    return sha256


def media_type_of(hit: Hit) -> str:
    """What the file of a stored image is, for HTTP."""
    image = hit.payload.get("image")
    told = image.get("format") if isinstance(image, Mapping) else None
    return _MEDIA_TYPES.get(str(told), "application/octet-stream")
