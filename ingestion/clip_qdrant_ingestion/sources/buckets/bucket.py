"""Buckets, and whatever else fsspec can reach, as a source.

The uri of an object is the URL as the tools of its service write it: `s3://bucket/` and the key, letter by letter.
Nothing is percent-encoded, so a key has one uri and a uri one key, also with spaces, "%", "?" and "#" in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Any

from clip_qdrant.errors import ConfigError
from clip_qdrant_ingestion.sources.buckets.listing import open_bucket
from clip_qdrant_ingestion.sources.protocol import Description, SourceObject
from clip_qdrant_ingestion.sources.schemes import scheme_of
from clip_qdrant_ingestion.sources.tree.selection import Selection
from clip_qdrant_ingestion.sources.tree.walk import TreeSource

__all__ = ["BucketSource"]

_WITH_METADATA = frozenset({"s3", "gs", "az"})  # buckets whose objects carry metadata of their users


class BucketSource(TreeSource):
    """The images below a bucket's prefix; which ones, `include`, `exclude` and `hidden` say as in `Selection`.

    `url` is any that fsspec knows: s3://, gs://, az://, hf://, sftp:// and so on. Credentials are the file system's
    own, from the environment and its configuration files; `storage_options` are its options, such as `endpoint_url`
    for an S3 service that is not Amazon's. Requests have a limit of time. Listings are tried again for `patience`
    seconds while what is wrong may pass by itself; reads are not.

    The user metadata of an object (x-amz-meta-…) become texts below what else is said of it, and the one named caption
    its caption. They cost one more request for each object that is read; `object_metadata=False` saves it.

    Raises MissingExtra without the driver, ConfigError for a URL, an option or a pattern that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        hidden: bool = False,
        name: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        reads_at_once: int = 32,
        object_metadata: bool = True,
        patience: float = 60.0,
    ) -> None:
        if reads_at_once < 1:
            raise ConfigError(f"reads_at_once must be at least 1, not {reads_at_once}")
        self._bucket = open_bucket(url, storage_options, reads_at_once=reads_at_once, patience=patience)
        self.url = self._bucket.uri("")
        self._asks_headers = object_metadata and scheme_of(url) in _WITH_METADATA
        selection = Selection(include, exclude, hidden=hidden)
        super().__init__(self._bucket, selection, name=name or self.url, patience=patience)

    def __repr__(self) -> str:
        return f"BucketSource({self.url!r})"

    def look(self, item: SourceObject) -> SourceObject:
        """The object as it is now, with its user metadata. One request, where there may be such metadata."""
        if not self._asks_headers:
            return item
        entry, metadata = self._bucket.look(item)
        headers = {name: _decode_header(value) for name, value in metadata.items()}
        below = Description(headers.pop("caption", "").strip() or None, texts=headers)
        return replace(item, size=entry.size, mtime=entry.mtime, etag=entry.etag, said=item.said.over(below))

    def is_gone(self, uri: str) -> bool | None:
        return self._bucket.is_gone(uri)


def _decode_header(value: str) -> str:
    """The text of a header: S3 gives what is not ASCII back as RFC 2047 encoded words."""
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return value
