"""Opening the file systems of fsspec, and telling which of their many errors may pass by themselves."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import IO, Any, TypeVar

from clip_qdrant.errors import ConfigError, MissingExtra, SourceError, first_line
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant.web.retries import retry_request
from clip_qdrant_ingestion.sources.schemes import scheme_of

__all__ = ["open_file", "open_filesystem", "to_source_error"]

_CONNECT_SECONDS = 10
_READ_SECONDS = 30  # without a byte
_BUFFER = 1 << 20  # bytes

_EXTRAS = {  # by scheme: package and extra
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "az": ("adlfs", "az"),
}

# Statuses and codes of answers. 5xx passes, but for "not implemented" and "version not supported".
_PASSING = frozenset({408, 425, 429})
_LASTING = frozenset({501, 505})
_PASSING_CODES = re.compile(
    r"SlowDown|Throttl|RequestTimeout$|TooManyRequests|LimitExceeded$|InternalError|Unavailable"
)
# Names of classes, so that none of the libraries must be imported (or be there) to know its errors.
_PASSING_TYPES = frozenset(
    {
        *("TimeoutError", "Timeout", "ConnectionError", "IncompleteRead", "IncompleteReadError"),
        *("HTTPClientError", "ResponseParserError", "ResponseStreamingError"),  # botocore
        *("ClientConnectionError", "ClientPayloadError"),  # aiohttp
        *("ChunkedEncodingError", "ProtocolError"),  # requests, urllib3
        *("TransportError", "ServiceRequestError", "ServiceResponseError"),  # httpx, google-auth, azure
    }
)
_LASTING_TYPES = frozenset(
    {"FileNotFoundError", "PermissionError", "SSLError", "ClientSSLError", "ProxyConnectionError", "InvalidURL"}
)

T = TypeVar("T")


def open_filesystem(
    url: str, storage_options: Mapping[str, Any] | None = None, *, connections: int = 32
) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path of the URL within it.

    `storage_options` are the file system's own, such as `endpoint_url`; without credentials among them it finds its
    own, in the environment or its configuration files. It makes as many as `connections` requests at once. It neither
    caches listings nor retries by itself. Raises MissingExtra, and ConfigError for a URL or options it cannot use.
    """
    from fsspec.core import url_to_fs

    shown = mask_secrets(url)
    scheme = scheme_of(url)
    if not scheme:
        raise ConfigError(f"{shown!r} is not the URL of a bucket; write s3://bucket/prefix, gs://… or az://…")
    options = {**(storage_options or {}), "skip_instance_cache": True}
    if scheme == "s3":
        options = _for_s3(options, connections)
    try:
        filesystem, path = url_to_fs(url, **options)
    except ImportError as error:
        if scheme in _EXTRAS:
            raise MissingExtra(*_EXTRAS[scheme], f"reading {shown}") from error
        raise ConfigError(f"cannot open {shown}: {first_line(error)}") from error
    except Exception as error:  # each file system has its own way to say what is wrong with an option
        raise ConfigError(f"cannot open {shown}: {mask_secrets(first_line(error))}") from error
    if scheme == "s3":
        filesystem.retries = 1
    return filesystem, path


def open_file(filesystem: Any, path: str, *, shown: str, patience: float) -> IO[bytes]:
    """A file of an fsspec file system. Whatever is asked for it is tried again for `patience` seconds.

    `shown` is the file in messages. Raises SourceError, and so does reading it.
    """
    file = _request(lambda: filesystem.open(path, "rb"), shown, patience)
    return io.BufferedReader(_RetriedFile(file, shown, patience), _BUFFER)


class _RetriedFile(io.RawIOBase):
    def __init__(self, file: Any, shown: str, patience: float) -> None:
        self._file, self._shown, self._patience = file, shown, patience
        self._size: int | None = getattr(file, "size", None)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            self._at = _request(lambda: self._file.seek(offset, whence), self._shown, self._patience)
        else:
            self._at = offset + (self._at if whence == os.SEEK_CUR else 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = _request(lambda: self._read(len(buffer)), self._shown, self._patience)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, size: int) -> bytes:
        if self._file.tell() != self._at:  # after a read that failed it may be anywhere
            self._file.seek(self._at)
        data: bytes = self._file.read(size)
        if not data and size and self._size is not None and self._at < self._size:
            raise SourceError(f"cannot read {self._shown}: {self._at} of {self._size} bytes came", transient=True)
        return data

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _request(request: Callable[[], T], shown: str, patience: float) -> T:
    def attempt() -> T:
        try:
            return request()
        except Exception as error:  # each file system has errors of its own
            raise to_source_error(error, f"read {shown}") from error

    return retry_request(attempt, patience=patience)


def _for_s3(options: Mapping[str, Any], connections: int) -> dict[str, Any]:
    config = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "max_pool_connections": connections,
        "retries": {"total_max_attempts": 1},
        **options.get("config_kwargs", {}),
    }
    options = {**options, "config_kwargs": config}
    with contextlib.suppress(ImportError):  # which is told when the file system is opened
        options.setdefault("session", _session(options.pop("profile", None)))
    return options


def _session(profile: str | None) -> Any:
    """A session of aiobotocore that reads the times in listings by itself: dateutil takes most of a listing's time."""
    from aiobotocore.session import AioSession
    from botocore.utils import parse_timestamp

    def moment(text: Any) -> datetime:
        try:
            return datetime.fromisoformat(text.replace("Z", "+00:00"))
        except (AttributeError, ValueError):  # a time in a header
            parsed: datetime = parse_timestamp(text)
            return parsed

    session = AioSession(profile=profile)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=moment)
    return session


def to_source_error(error: BaseException, what: str) -> SourceError:
    """The error of a file system as a SourceError. `what` says what was tried ("read s3://photos/a.jpg").

    Transient are timeouts, broken and refused connections, answers that end early, and the statuses 408, 425, 429 and
    5xx; nothing is where the file is not there, or permission is refused.
    """
    if isinstance(error, SourceError):
        return error
    detail = mask_secrets(getattr(error, "strerror", None) or first_line(error))
    if (known := _name_of_answer(error)) and known not in detail:
        detail += f" ({known})"
    return SourceError(f"cannot {what}: {detail}{_what_now(error)}", transient=_may_pass(error))


def _may_pass(error: BaseException) -> bool:
    """What the outermost of the errors says that says something: it knows best what those within it mean."""
    for one in _chain(error):
        types = {kind.__name__ for kind in type(one).__mro__}
        status, code = _answer(one)
        if types & _LASTING_TYPES:
            return False
        if types & _PASSING_TYPES or (code and _PASSING_CODES.search(code)):
            return True
        if status is not None and status >= 400:
            return status in _PASSING or (status >= 500 and status not in _LASTING)
    return False


def _name_of_answer(error: BaseException) -> str | None:
    """The code, or else the status, of the answer that an error is about."""
    for one in _chain(error):
        status, code = _answer(one)
        if code or status is not None:
            return code or str(status)
    return None


def _answer(error: BaseException) -> tuple[int | None, str | None]:
    answer = getattr(error, "response", None)
    if isinstance(answer, Mapping):  # botocore
        return answer.get("ResponseMetadata", {}).get("HTTPStatusCode"), answer.get("Error", {}).get("Code")
    for holder in (error, answer):
        for name in ("status", "status_code", "code"):
            if isinstance(status := getattr(holder, name, None), int):
                return status, None
    return None, None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _what_now(error: BaseException) -> str:
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, or the option anon for a public bucket"
    return ""
