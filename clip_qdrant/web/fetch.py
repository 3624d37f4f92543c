"""Objects behind http and https addresses that strangers may have written: fetched within limits, from public hosts.

A table of images names whatever its author wanted. So the time and the size of each answer are limited as a whole,
redirects are followed one by one and checked like the first address, and a host is asked only if all its addresses are
public; the connection goes to the very address that was checked, so a name that resolves to another one the second time
(DNS rebinding) gains nothing. Certificates are checked against the host's name. There are no cookies and no proxies.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import ssl
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpcore

from clip_qdrant.errors import AddressRefused, ImageTooLarge, SourceError, first_line
from clip_qdrant.images.load import Limits
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant.web.connections import CheckedConnections, time_limit
from clip_qdrant.web.pieces import join_pieces
from clip_qdrant.web.retries import retry_request

__all__ = ["Fetcher", "Version"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429})
_NEVER_SERVED = frozenset({501, 505})
_KEPT_OPEN = 64  # connections that wait for the next request


@dataclass(frozen=True, slots=True)
class Version:
    """What tells whether an object changed: `size` in bytes, `mtime` in seconds since 1970, None where not told."""

    etag: str | None = None
    size: int | None = None
    mtime: float | None = None


class Fetcher:
    """Fetches objects by http and https, from several threads at once.

    `timeout` is the time in seconds that one object may take, redirects and the last byte included; the look-up of
    host names is limited by the system's resolver. `allow_private` lets it reach loopback and private addresses.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        timeout: float = 30.0,
        max_redirects: int = 5,
        user_agent: str = "clip-qdrant",
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.timeout = timeout
        self._max_redirects = max_redirects
        self._user_agent = user_agent
        self._ssl_context = ssl_context
        self._connections = CheckedConnections(allow_private=allow_private)

    def __getstate__(self) -> dict[str, object]:
        """All but the open connections: in another process it opens its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_pool"}

    @functools.cached_property
    def _pool(self) -> httpcore.ConnectionPool:
        pool = httpcore.ConnectionPool(
            ssl_context=self._ssl_context or _usual_certificates(),
            max_connections=None,  # the threads that fetch are the bound
            max_keepalive_connections=_KEPT_OPEN,
            keepalive_expiry=10.0,
            network_backend=self._connections,
        )
        weakref.finalize(self, pool.close)
        return pool

    def fetch(self, url: str, *, limits: Limits) -> bytes:
        """The whole object. Raises SourceError, and ImageTooLarge above the limit of bytes."""
        with self._answer("GET", url, self.timeout) as response:
            return join_pieces(_body(response, url, limits.max_bytes))

    def open(self, url: str, *, max_bytes: int, timeout: float, patience: float) -> IO[bytes]:
        """The whole object, which may be larger than memory, in a temporary file that has no name.

        It is tried again for `patience` seconds. Raises as `fetch` does.
        """

        def attempt() -> IO[bytes]:
            with contextlib.ExitStack() as failing:  # a try that fails leaves no file
                file = failing.enter_context(tempfile.TemporaryFile())
                with self._answer("GET", url, timeout) as response:
                    file.writelines(_body(response, url, max_bytes))
                file.seek(0)
                failing.pop_all()
            return file

        return retry_request(attempt, patience=patience)

    def head(self, url: str) -> Version | None:
        """What the headers tell; None where the server answers nothing but GET. Raises SourceError."""
        with contextlib.suppress(_HeadRefused), self._answer("HEAD", url, self.timeout) as response:
            return _version(response)
        return None

    def is_gone(self, url: str) -> bool | None:
        """Whether the server says that there is nothing (404, 410); None where it does not answer."""
        try:
            self.head(url)
        except _NotThere:
            return True
        except SourceError:
            return None
        return False

    def close(self) -> None:
        """Closes the connections that are kept open, which happens to a fetcher that is no longer used, too."""
        self._pool.close()

    @contextlib.contextmanager
    def _answer(self, method: str, url: str, timeout: float) -> Iterator[httpcore.Response]:
        """The answer with the object in it, at the end of all redirects; its body is read within the context."""
        with time_limit(timeout), _as_source_errors(url, timeout), contextlib.ExitStack() as stack:
            here = url
            for _ in range(self._max_redirects + 1):
                address, headers = _request(here, self._user_agent, first=url)
                with contextlib.ExitStack() as hop:
                    response = hop.enter_context(self._pool.stream(method, address, headers=headers))
                    location = _header(response, b"location")
                    if response.status not in _REDIRECTS or not location:
                        _check_status(response.status, method, url)
                        stack.push(hop.pop_all())
                        break
                here = urljoin(here, location)
            else:
                raise SourceError(f"cannot fetch {_shown(url)}: more than {self._max_redirects} redirects")
            yield response


@functools.cache
def _usual_certificates() -> ssl.SSLContext:
    return httpcore.default_ssl_context()  # 0.1 s


def _request(url: str, user_agent: str, *, first: str) -> tuple[httpcore.URL, list[tuple[bytes, bytes]]]:
    """Where to send a request, and its headers. A user is told to the host of the `first` address alone."""
    try:
        parts = urlsplit(url)
        trusted = _origin(url) == _origin(first)
        port = parts.port
        host = (parts.hostname or "").encode("ascii" if ":" in (parts.hostname or "") else "idna")
    except ValueError as error:  # UnicodeError too
        why = "its port is no number; in a password, / is %2F" if "ort " in str(error) else str(error)
        raise SourceError(f"cannot fetch {_shown(url)}: it is no address that can be asked ({why})") from error
    if parts.scheme not in ("http", "https") or not host:
        raise SourceError(f"cannot fetch {_shown(url)}: only http and https addresses are fetched")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    literal = b"[%b]" % host if b":" in host else host
    headers = [
        (b"Host", literal if port is None else b"%b:%d" % (literal, port)),
        (b"User-Agent", user_agent.encode("latin-1", "replace")),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
    ]
    if parts.username is not None and trusted:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers.append((b"Authorization", b"Basic " + base64.b64encode(user.encode())))
    return httpcore.URL(scheme=parts.scheme.encode(), host=host, port=port, target=target.encode()), headers


class _NotThere(SourceError):
    """The server says that there is no such object."""


class _HeadRefused(Exception):
    """The server does not answer HEAD for an object that GET may well give."""


def _check_status(status: int, method: str, url: str) -> None:
    if status in (200, 203):
        return
    transient = status in _TRANSIENT or (status >= 500 and status not in _NEVER_SERVED)
    # A signed address may be good for GET alone: S3 answers 403 to HEAD.
    if method == "HEAD" and not transient and status not in (404, 410):
        raise _HeadRefused
    kind = _NotThere if status in (404, 410) else SourceError
    raise kind(f"cannot fetch {_shown(url)}: the server answered {status}", transient=transient)


def _body(response: httpcore.Response, url: str, max_bytes: int) -> Iterator[bytes]:
    encoding = _header(response, b"content-encoding") or "identity"
    if encoding.lower() != "identity":
        raise SourceError(f"cannot fetch {_shown(url)}: it comes compressed ({encoding}), which was not asked for")
    announced = _header(response, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > max_bytes:
        raise ImageTooLarge(f"{_shown(url)} has {announced} bytes; the limit is {max_bytes}")
    size = 0
    for chunk in response.iter_stream():
        size += len(chunk)
        if size > max_bytes:
            raise ImageTooLarge(f"{_shown(url)} has more bytes than the limit of {max_bytes}")
        yield chunk


def _version(response: httpcore.Response) -> Version:
    size, date = _header(response, b"content-length"), _header(response, b"last-modified")
    mtime = None
    if date is not None:
        with contextlib.suppress(ValueError, OverflowError):
            mtime = parsedate_to_datetime(date).timestamp()
    return Version(_header(response, b"etag"), int(size) if size is not None and size.isdigit() else None, mtime)


def _header(response: httpcore.Response, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), None)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2].lower()


def _shown(url: str) -> str:
    return mask_secrets(url)


@contextlib.contextmanager
def _as_source_errors(url: str, timeout: float) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise SourceError(f"cannot fetch {_shown(url)}: it took longer than {timeout:g} s", transient=True) from error
    except AddressRefused as error:
        raise SourceError(f"cannot fetch {_shown(url)}: {error}") from error
    except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol) as error:
        raise SourceError(f"cannot fetch {_shown(url)}: {first_line(error)}") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        # httpcore cuts the chain of exceptions, and wraps the first of them.
        untrusted = any(isinstance(one, ssl.SSLCertVerificationError) for one in (error, *error.args))
        raise SourceError(f"cannot fetch {_shown(url)}: {first_line(error)}", transient=not untrusted) from error
