"""A table that names images: CSV, TSV, JSONL or Parquet, in a local file, in a bucket or on the web.

A path in it counts from the folder of the table, or from `base`; absolute paths and addresses mean themselves. The
table is streamed, so its size does not matter; of each image that it names only a hash is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from clip_qdrant.errors import ConfigError, MetadataError, MissingExtra, SourceError
from clip_qdrant.images.load import Limits, read_bytes
from clip_qdrant.tables.compression import open_unpacked
from clip_qdrant.tables.rows import LostRow
from clip_qdrant.tables.suffixes import TABLE_SUFFIXES, TableFormat, table_format
from clip_qdrant.uris import path_of, to_uri
from clip_qdrant.url_secrets import mask_secrets, remove_secrets
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
from clip_qdrant_ingestion.sources.buckets.filesystems import open_file, open_filesystem, to_source_error
from clip_qdrant_ingestion.sources.protocol import OBJECTS_A_PAGE, Page, Problem, SourceObject
from clip_qdrant_ingestion.sources.schemes import WEB, is_web, scheme_of
from clip_qdrant_ingestion.sources.tables.addresses import check_reach, name_within, resolve_address
from clip_qdrant_ingestion.sources.tables.image_rows import ImageRow, read_rows

__all__ = ["ManifestSource", "manifest_format"]

logger = logging.getLogger(__name__)

_LARGEST_TABLE = 1 << 36  # bytes that are fetched from the web
_LONGEST_FETCH = 3600.0  # seconds
_BUCKETS = frozenset({"s3", "gs", "az", "hf"})
_FURTHER = "%s: %d captions are not used: an image has one, the first"
_LARGEST_PAGE = 4 << 20  # bytes of rows, which take up to thirty times as much as objects of Python


def manifest_format(location: str) -> TableFormat | None:
    """The format of the table at a path or URL; None if its name tells none."""
    return table_format(urlsplit(location).path if is_web(location) else location)


class ManifestSource:
    """The images that a table names, in its order.

    `uri_column` is the column of the images; without it the first there is of IMAGE_COLUMNS. `name` is by default the
    address of the table without user and query, which change. `fetcher` gets what is on the web, `storage_options`
    are for the file system of buckets. A table from the web names images on the web, or below a `base`. What is
    asked for the table is tried again for `patience` seconds while what is wrong may pass by itself.
    Raises ConfigError for a table whose format its name does not tell.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        *,
        uri_column: str | None = None,
        name: str | None = None,
        base: str | os.PathLike[str] | None = None,
        fetcher: Fetcher | None = None,
        storage_options: Mapping[str, Any] | None = None,
        patience: float = 60.0,
    ) -> None:
        self.uri = to_uri(os.fspath(location))
        form = manifest_format(self.uri)
        if form is None:
            raise ConfigError(
                f"{os.fspath(location)} is no manifest: its name ends in none of {', '.join(TABLE_SUFFIXES)} "
                "(with .gz, .bz2, .xz or .zst too, but for Parquet)"
            )
        self._form: TableFormat = form
        self._shown = mask_secrets(self.uri)
        self.name = name or urlunsplit(urlsplit(remove_secrets(self.uri))._replace(query="", fragment=""))
        self._uri_column = uri_column
        # A base is a folder, whether or not a "/" says so; the folder of the table is what is before its last "/".
        self._base = self.uri if base is None else f"{to_uri(os.fspath(base)).rstrip('/')}/"
        self._fetcher = fetcher or Fetcher()
        self._storage_options = dict(storage_options or {})
        self._patience = patience
        self._buckets: dict[str, BucketSource] = {}

    def __repr__(self) -> str:
        return f"ManifestSource({self._shown!r})"

    @property
    def reads_at_once(self) -> int:
        return 32

    @property
    def many_places(self) -> bool:
        return True

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:  # noqa: ARG002  it has no folders
        seen = TextSet()
        with contextlib.ExitStack() as stack:
            rows = read_rows(self._open(stack), self._form, uri_column=self._uri_column)
            stack.callback(rows.close)
            objects: list[tuple[str, SourceObject]] = []
            problems: list[Problem] = []
            begun, size, further = False, 0, 0
            last: SourceObject | None = None
            while True:
                try:
                    row = next(rows, None)
                except SourceError as error:
                    if not begun:
                        detail = f"{self._shown} cannot be listed: {error}"
                        raise SourceError(detail, transient=error.transient) from error
                    row = LostRow("the rest", "end", str(error))
                begun = True
                coming = row.size if isinstance(row, ImageRow) else 0
                if row is None or max(len(objects), len(problems)) == OBJECTS_A_PAGE or size + coming > _LARGEST_PAGE:
                    yield self._page(objects, problems, seen)
                    objects, problems, size = [], [], 0
                if row is None:
                    if further:
                        logger.warning(
                            "%s: %d captions are not used: an image has one, the first", self._shown, further
                        )
                    return
                size += coming
                if isinstance(row, LostRow):
                    problems.append(self._problem(str(row), "unreadable" if row.kind == "end" else "bad metadata"))
                    continue
                try:
                    found = self._object(row)
                except MetadataError as error:
                    problems.append(self._problem(f"{row.place}: {error}", "bad metadata"))
                    continue
                if last is not None and _is_further_caption(found, last):
                    further += 1
                    continue
                objects.append((row.place, found))
                last = found

    def look(self, item: SourceObject) -> SourceObject:
        scheme = scheme_of(item.uri)
        if scheme == "file":
            return item
        if scheme in WEB:
            version = self._fetcher.head(item.address or item.uri)
            if version is None:
                return item
            return replace(item, etag=version.etag, size=version.size, mtime=version.mtime)
        bucket, key = self._bucket(item.address or item.uri)
        return replace(bucket.look(replace(item, name=key)), name=item.name)

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        scheme = scheme_of(item.uri)
        if scheme == "file":
            return read_bytes(item.uri, limits=limits)
        if scheme in WEB:
            return self._fetcher.fetch(item.address or item.uri, limits=limits)
        bucket, key = self._bucket(item.address or item.uri)
        return bucket.read(replace(item, name=key), limits=limits)

    def is_gone(self, uri: str) -> bool | None:
        scheme = scheme_of(uri)
        if scheme in WEB:
            return self._fetcher.is_gone(uri)
        if scheme not in _BUCKETS:
            return None
        try:
            bucket, _ = self._bucket(uri)
        except SourceError:
            return None
        return bucket.is_gone(uri)

    def _bucket(self, uri: str) -> tuple[BucketSource, str]:
        """The bucket of an object, and the object's key."""
        scheme, _, place = uri.partition("://")
        name, _, key = place.partition("/")
        url = f"{scheme}://{name}"
        if url not in self._buckets:
            try:
                bucket = BucketSource(url, storage_options=self._storage_options, reads_at_once=self.reads_at_once)
            except (ConfigError, MissingExtra) as error:
                raise SourceError(f"cannot read {mask_secrets(uri)}: {error}") from error
            self._buckets.setdefault(url, bucket)  # of two threads that come at once the first wins
        return self._buckets[url], key

    def _page(self, named: list[tuple[str, SourceObject]], problems: list[Problem], seen: TextSet) -> Page:
        objects = []
        for (place, item), new in zip(named, seen.add_all([item.uri for _, item in named]), strict=True):
            if new:
                objects.append(_with_status(item))
            else:
                shown = mask_secrets(item.uri)
                problems.append(self._problem(f"{place}: {shown} has a row already", "bad metadata", hides=False))
        return Page(objects, problems)

    def _problem(self, detail: str, reason: str, *, hides: bool = True) -> Problem:
        return Problem(self._shown, reason, detail, hides_objects=hides)

    def _object(self, row: ImageRow) -> SourceObject:
        """Raises MetadataError."""
        uri = resolve_address(row.image, self._base)
        check_reach(uri, self.uri, self._base)
        kept = remove_secrets(uri)
        name = name_within(uri, self._base)
        return SourceObject(kept, name, said=row.said, address=None if kept == uri else uri)

    def _open(self, stack: contextlib.ExitStack) -> IO[bytes]:
        """The table, unpacked; it is closed by `stack`."""
        file = self._open_packed(stack)
        if self._form == "parquet":
            return file
        try:
            return open_unpacked(file)[0]
        except OSError as error:
            raise to_source_error(error, f"read {self._shown}") from error

    def _open_packed(self, stack: contextlib.ExitStack) -> IO[bytes]:
        scheme = scheme_of(self.uri)
        if scheme in WEB:
            return stack.enter_context(
                self._fetcher.open(self.uri, max_bytes=_LARGEST_TABLE, timeout=_LONGEST_FETCH, patience=self._patience)
            )
        if scheme == "file":
            local = path_of(self.uri) or Path()
            try:
                return stack.enter_context(local.open("rb"))
            except OSError as error:
                raise to_source_error(error, f"read {local}") from error
        filesystem, path = open_filesystem(self.uri, self._storage_options)
        return stack.enter_context(open_file(filesystem, path, shown=self._shown, patience=self._patience))


def _is_further_caption(item: SourceObject, last: SourceObject) -> bool:
    """Whether a row names the image of the row before it, and says nothing new but a caption."""
    return (
        item.uri == last.uri and bool(last.said.caption) and replace(item.said, caption=last.said.caption) == last.said
    )


def _with_status(item: SourceObject) -> SourceObject:
    """A local file with its size and time; one that is not there as it is: reading it tells what is wrong."""
    if scheme_of(item.uri) != "file":
        return item
    with contextlib.suppress(OSError, ValueError):  # ValueError: a NUL in the name
        status = (path_of(item.uri) or Path()).stat()
        return replace(item, size=status.st_size, mtime=status.st_mtime)
    return item
