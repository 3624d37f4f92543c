"""The tar archives that a location names (one, a folder of them, a pattern), and how each is opened."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from clip_qdrant.errors import ConfigError, SourceError
from clip_qdrant.tables.braces import expand_braces
from clip_qdrant.tables.suffixes import ARCHIVE_SUFFIXES, is_archive
from clip_qdrant.uris import lower_scheme, path_of, to_uri
from clip_qdrant.url_secrets import mask_secrets, remove_secrets
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant.web.retries import retry_request
from clip_qdrant_ingestion.sources.buckets.filesystems import open_file, open_filesystem, to_source_error
from clip_qdrant_ingestion.sources.buckets.versions import etag_of, moment_of
from clip_qdrant_ingestion.sources.leftovers import is_leftover
from clip_qdrant_ingestion.sources.schemes import WEB, is_web, scheme_of
from clip_qdrant_ingestion.sources.sizes import check_whole

__all__ = ["Archives", "is_pattern", "names_archives"]

_LARGEST = 1 << 40  # bytes of an archive that is fetched from the web
_LONGEST_FETCH = 6 * 3600.0  # seconds
_GLOBS = "*?["


def names_archives(location: str) -> bool:
    """Whether a path, a URL or a pattern names tar archives."""
    return is_archive(urlsplit(location).path if is_web(location) else location)


def is_pattern(location: str) -> bool:
    """Whether a location names archives by braces or by the characters of a glob."""
    return any(character in location for character in _GLOBS + "{")


class Archives:
    """The archives that a location names: a path or URL of one or of their folder, with braces and globs.

    Requests to a bucket or a web server are tried again for `patience` seconds while what is wrong may pass by itself.
    """

    def __init__(
        self, location: str, *, fetcher: Fetcher, storage_options: Mapping[str, Any] | None, patience: float
    ) -> None:
        self.location = location = lower_scheme(location)
        self._scheme = scheme_of(location) or "file"
        self._fetcher, self._patience = fetcher, patience
        self._filesystem: Any = None
        if self._scheme not in ("file", *WEB):
            self._filesystem, self._path = open_filesystem(location, storage_options)

    @property
    def shown(self) -> str:
        return mask_secrets(self.location)

    @property
    def name(self) -> str:
        """The location as a uri, without what changes: user and query."""
        if self.is_local:
            return to_uri(self.location)
        kept = remove_secrets(self.location)
        return urlunsplit(urlsplit(kept)._replace(query="", fragment="")) if self._scheme in WEB else kept

    @property
    def is_local(self) -> bool:
        return self._scheme == "file"

    def uris(self) -> list[str]:
        """The uris of the archives, each once. Raises SourceError if there are none."""
        if self._scheme in WEB:
            found = list(expand_braces(self.location))
        elif self.is_local:
            found = [to_uri(Path(path)) for path in self._local()]
        else:
            found = [self._uri(path) for path in retry_request(self._remote, patience=self._patience)]
        if not found:
            raise SourceError(
                f"there are no archives at {self.shown}; their names end in {', '.join(ARCHIVE_SUFFIXES)}"
            )
        return list(dict.fromkeys(found))

    def version(self, uri: str) -> str | None:
        """A text that changes when the archive does. Raises SourceError."""
        return retry_request(lambda: self._version(uri), patience=self._patience)

    @contextlib.contextmanager
    def open(self, uri: str) -> Iterator[IO[bytes]]:
        """The archive as a file; one from the web is fetched whole, to a file that has no name.

        Raises SourceError, and so does reading an archive in a bucket.
        """
        with contextlib.ExitStack() as stack:
            yield self._open(uri, stack)

    def read_range(self, uri: str, offset: int, size: int) -> bytes:
        """So many bytes of an archive that is local or in a bucket. Raises SourceError."""
        if self.is_local:
            path = path_of(uri) or Path()
            try:
                with path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(size)
            except OSError as error:
                raise to_source_error(error, f"read {path}") from error
        else:
            try:
                data = self._filesystem.cat_file(self._path_in(uri), start=offset, end=offset + size)
            except Exception as error:
                raise to_source_error(error, f"read {uri}") from error
        check_whole(uri, len(data), size, transient=not self.is_local)
        return data

    def _version(self, uri: str) -> str | None:
        if self.is_local:
            path = path_of(uri) or Path()
            try:
                status = path.stat()
            except OSError as error:
                raise to_source_error(error, f"read {path}") from error
            return f"{status.st_mtime_ns:x}-{status.st_size:x}"
        if self._scheme in WEB:
            told = self._fetcher.head(uri)
            if told is None or told.etag is not None or told.mtime is None:
                return told.etag if told else None
            return f"{told.mtime:.0f}-{told.size}"
        try:
            info = self._filesystem.info(self._path_in(uri))
        except Exception as error:
            raise to_source_error(error, f"read {uri}") from error
        etag, moment = etag_of(info), moment_of(info)
        if etag:
            return etag
        return None if moment is None else f"{moment}-{info.get('size')}".replace(" ", "T")

    def _open(self, uri: str, stack: contextlib.ExitStack) -> IO[bytes]:
        if self.is_local:
            path = path_of(uri) or Path()
            try:
                return stack.enter_context(path.open("rb"))
            except OSError as error:
                raise to_source_error(error, f"read {path}") from error
        if self._scheme in WEB:
            return stack.enter_context(
                self._fetcher.open(uri, max_bytes=_LARGEST, timeout=_LONGEST_FETCH, patience=self._patience)
            )
        file = open_file(self._filesystem, self._path_in(uri), shown=uri, patience=self._patience)
        return stack.enter_context(file)

    def _local(self) -> list[str]:
        place = os.fspath(path_of(self.location) or "") if scheme_of(self.location) == "file" else self.location
        try:
            if Path(place).is_dir():
                found = (path for path in Path(place).iterdir() if is_archive(path.name))
                return sorted(os.fspath(path) for path in found if not is_leftover(path.name))
            if Path(place).exists():  # a file may have braces and stars in its own name
                return [place]
        except OSError as error:
            raise SourceError(f"cannot list {place}: {error.strerror or error}") from error
        return list(_found(place, lambda pattern: glob.glob(pattern, recursive=True)))  # noqa: PTH207

    def _remote(self) -> list[str]:
        try:
            if is_pattern(self._path):
                return list(_found(self._path, self._filesystem.glob))
            if is_archive(self._path):
                return [self._path]
            names = self._filesystem.ls(self._path, detail=False)
        except ConfigError:
            raise
        except Exception as error:
            raise to_source_error(error, f"list {self.shown}") from error
        return sorted(str(name) for name in names if is_archive(str(name)))

    def _uri(self, path: str) -> str:
        return f"{self._scheme}://{path.lstrip('/')}"

    def _path_in(self, uri: str) -> str:
        return ("/" if self._path.startswith("/") else "") + uri.partition("://")[2]


def _found(pattern: str, match: Callable[[str], Iterable[str]]) -> Iterator[str]:
    for one in expand_braces(pattern):
        if any(character in one for character in _GLOBS):
            yield from sorted(match(one))
        else:
            yield one
