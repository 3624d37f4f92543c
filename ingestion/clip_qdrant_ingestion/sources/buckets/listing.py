"""How buckets are listed and read: S3 page by page, any other file system of fsspec folder by folder."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from clip_qdrant.errors import ClipQdrantError, ConfigError, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.tables.suffixes import is_archive
from clip_qdrant.uris import lower_scheme
from clip_qdrant.url_secrets import remove_secrets
from clip_qdrant.web.pieces import Pieces
from clip_qdrant.web.retries import retry_request
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.sources.buckets.filesystems import open_filesystem, to_source_error
from clip_qdrant_ingestion.sources.buckets.versions import etag_of, mtime_of, size_of
from clip_qdrant_ingestion.sources.protocol import SourceObject
from clip_qdrant_ingestion.sources.schemes import scheme_of
from clip_qdrant_ingestion.sources.sizes import check_size, check_whole
from clip_qdrant_ingestion.sources.tree.walk import Entry

__all__ = ["Bucket", "open_bucket"]

_CHUNK = 1024 * 1024
_EMPTY_PAGES = 1000  # of a listing, in a row


class Bucket(ABC):
    """What all buckets have in common: no links, and a listing that says all of an object."""

    def __init__(self, filesystem: Any, reads_at_once: int, patience: float) -> None:
        self.reads_at_once = reads_at_once
        self._filesystem, self._patience = filesystem, patience

    def identity(self, prefix: str) -> int | None:  # noqa: ARG002  there is but one way to each folder
        return None

    def object(self, prefix: str, entry: Entry) -> SourceObject:
        name = prefix + entry.name
        return SourceObject(self.uri(name), name, size=entry.size, mtime=entry.mtime, etag=entry.etag)

    @abstractmethod
    def entries(self, prefix: str) -> Iterator[Entry]: ...

    @abstractmethod
    def uri(self, name: str) -> str: ...

    @abstractmethod
    def read(self, item: SourceObject, *, limits: Limits) -> bytes: ...

    @abstractmethod
    def look(self, item: SourceObject) -> tuple[Entry, Mapping[str, str]]:
        """The object as it is now, and its user metadata."""

    def is_gone(self, uri: str) -> bool | None:
        """Whether this bucket has nothing at a uri; None for a uri of another one, and where it cannot be told."""
        archive, _, member = uri.rpartition("#")
        place = archive if member and is_archive(archive) else uri
        if not place.startswith(self._whole):
            return None
        try:
            self._ask(place)
        except FileNotFoundError:
            return True
        except Exception:  # noqa: BLE001  each file system has errors of its own, and none says that it is gone
            return None
        return False

    @property
    @abstractmethod
    def _whole(self) -> str:
        """How the uris of all its objects begin, also of those that are not below the prefix."""

    @abstractmethod
    def _ask(self, uri: str) -> None:
        """Asks for the object at a uri of this bucket, and raises FileNotFoundError if there is none."""


class _S3Bucket(Bucket):
    """An S3 bucket, listed page by page."""

    def __init__(self, filesystem: Any, url: str, reads_at_once: int, patience: float) -> None:
        super().__init__(filesystem, reads_at_once, patience)
        path = url.partition("://")[2]
        self._name: str = filesystem.split_path(path)[0]
        if not self._name:
            raise ConfigError(f"{url!r} names no bucket; write s3://bucket/prefix")
        # One "/" ends the name of the bucket and one that of the folder; any other is part of the keys.
        key = path[len(self._name) :].removeprefix("/")
        self._key = f"{key.removesuffix('/')}/" if key else ""

    def entries(self, prefix: str) -> Iterator[Entry]:
        start = self._key + prefix
        token: dict[str, str] = {}
        seen, empty = TextSet(), 0
        while True:
            page = retry_request(partial(self._page, start, token), patience=self._patience)
            files, folders = page.get("Contents", ()), page.get("CommonPrefixes", ())
            if start and not (token or files or folders):
                raise FileNotFoundError(f"cannot list s3://{self._name}/{start}: no key begins with {start!r}")
            for one in files:
                if one["Key"] != start:  # an object that stands for the folder itself
                    yield _entry(one["Key"][len(start) :], one)
            for one in folders:
                yield Entry(one["Prefix"][len(start) : -1], is_folder=True)
            if not page.get("IsTruncated"):
                return
            following = page.get("NextContinuationToken")
            empty = 0 if files or folders else empty + 1
            if not following or not seen.add_all([following])[0] or empty > _EMPTY_PAGES:
                raise SourceError(
                    f"cannot list s3://{self._name}/{start} to its end: the service "
                    + ("sends one empty page after the other" if following and empty else "does not go on from a page")
                    + "; nothing is deleted for it"
                )
            token = {"ContinuationToken": following}

    def _page(self, start: str, token: Mapping[str, str]) -> Mapping[str, Any]:
        with _translate_errors(f"list s3://{self._name}/{start}"):
            return self._call("list_objects_v2", Bucket=self._name, Prefix=start, Delimiter="/", **token)

    def uri(self, name: str) -> str:
        return f"s3://{self._name}/{self._key}{name}" if name else f"s3://{self._name}/{self._key}".removesuffix("/")

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        from fsspec.asyn import sync

        check_size(item.uri, item.size, limits)
        with _translate_errors(f"read {item.uri}"):
            answer = self._call("get_object", Bucket=self._name, Key=self._key + item.name)
            data: bytes = sync(self._filesystem.loop, _content, answer, item.uri, limits)
        return data

    def look(self, item: SourceObject) -> tuple[Entry, Mapping[str, str]]:
        with _translate_errors(f"read {item.uri}"):
            answer = self._call("head_object", Bucket=self._name, Key=self._key + item.name)
        return _entry(item.name, {**answer, "Size": answer["ContentLength"]}), answer.get("Metadata", {})

    @property
    def _whole(self) -> str:
        return f"s3://{self._name}/"

    def _ask(self, uri: str) -> None:
        self._call("head_object", Bucket=self._name, Key=uri.removeprefix(self._whole))

    def _call(self, method: str, **arguments: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._filesystem.call_s3(method, **arguments)
        return answer


async def _content(answer: Mapping[str, Any], uri: str, limits: Limits) -> bytes:
    """The body of an answer: not more than the limit, and not less than was announced."""
    body, length = answer["Body"], answer["ContentLength"]
    pieces = Pieces()
    size = 0
    try:
        check_size(uri, length, limits)
        while chunk := await body.read(_CHUNK):
            size += len(chunk)
            check_size(uri, size, limits)
            pieces.append(chunk)
        check_whole(uri, size, length)
        return pieces.take()
    finally:
        body.close()
        pieces.close()


class _OtherBucket(Bucket):
    """Any other file system of fsspec. It gives the listing of a folder whole, which grows smaller as it is used."""

    def __init__(self, filesystem: Any, path: str, url: str, reads_at_once: int, patience: float) -> None:
        super().__init__(filesystem, reads_at_once, patience)
        self._path = path.rstrip("/")
        # The password of sftp://user:password@host belongs in no collection.
        before, chain, after = remove_secrets(url).partition("::")  # zip://folder::s3://bucket/photos.zip
        self._before, self._after = before.rstrip("/"), chain + after

    def entries(self, prefix: str) -> Iterator[Entry]:
        path = f"{self._path}/{prefix}".rstrip("/")
        uri = self.uri(prefix.removesuffix("/"))
        try:
            listing = retry_request(partial(self._list, path, uri), patience=self._patience)
        except SourceError as error:
            if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                raise FileNotFoundError(str(error)) from error
            raise
        if all(_is_itself(one, path) for one in listing) and any(one["type"] != "directory" for one in listing):
            raise FileNotFoundError(f"cannot list {uri}: it is not a folder")
        before = None
        while listing:
            one = listing.pop()
            name = one["name"].rstrip("/")
            if name == before or _is_itself(one, path):
                continue
            before, last = name, name.rpartition("/")[2]
            yield Entry(last, is_folder=True) if one["type"] == "directory" else _entry(last, one)

    def _list(self, path: str, uri: str) -> list[Mapping[str, Any]]:
        """What is in a folder, the last name first."""
        with _translate_errors(f"list {uri}"):
            self._filesystem.invalidate_cache(path)
            try:
                found = self._filesystem.ls(path, detail=True)
                return sorted(found, key=lambda one: one["name"].rstrip("/"), reverse=True)
            finally:
                self._filesystem.invalidate_cache(path)

    def uri(self, name: str) -> str:
        uri = (f"{self._before}/{name}" if name else self._before) + self._after
        return uri.encode("utf-8", "backslashreplace").decode()  # a name that is not UTF-8 has lone surrogates

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        path = f"{self._path}/{item.name}"
        with _translate_errors(f"read {item.uri}"):
            size = item.size if item.size is not None else self._filesystem.info(path)["size"]
            check_size(item.uri, size, limits)
            data: bytes = self._filesystem.cat_file(path)
            check_size(item.uri, len(data), limits)
            if len(data) != size:
                size = self._filesystem.info(path)["size"]  # it may be another one since it was listed
        check_whole(item.uri, len(data), size)
        return data

    def look(self, item: SourceObject) -> tuple[Entry, Mapping[str, str]]:
        with _translate_errors(f"read {item.uri}"):
            info = self._filesystem.info(f"{self._path}/{item.name}")
        return _entry(item.name, info), info.get("metadata") or {}

    @property
    def _whole(self) -> str:
        scheme, separator, place = self._before.partition("://")
        return f"{scheme}{separator}{place.partition('/')[0]}/"

    def _ask(self, uri: str) -> None:
        if self._after:  # a file system within another
            raise NotImplementedError
        self._filesystem.invalidate_cache()
        self._filesystem.info(self._filesystem._strip_protocol(uri))


def open_bucket(
    url: str, storage_options: Mapping[str, Any] | None = None, *, reads_at_once: int = 32, patience: float = 60.0
) -> Bucket:
    """The bucket behind a URL, whose root is the folder that the URL names. Raises as `open_filesystem`."""
    url = lower_scheme(url)
    filesystem, path = open_filesystem(url, storage_options, connections=reads_at_once)
    if scheme_of(url) == "s3":
        return _S3Bucket(filesystem, url, reads_at_once, patience)
    return _OtherBucket(filesystem, path, url, reads_at_once, patience)


def _entry(name: str, info: Mapping[str, Any]) -> Entry:
    """A file, by what the listing of whichever bucket says of it."""
    return Entry(name, size=size_of(info), mtime=mtime_of(info), etag=etag_of(info))


def _is_itself(info: Mapping[str, Any], path: str) -> bool:
    return bool(info["name"].strip("/") == path.strip("/"))


@contextlib.contextmanager
def _translate_errors(what: str) -> Iterator[None]:
    try:
        yield
    except ClipQdrantError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise to_source_error(error, what) from error
