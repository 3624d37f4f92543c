"""Connections to public hosts alone, each step within the time that is left.

A name is resolved here, all its addresses are checked, and the connection goes to a number: nothing resolves it again.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

import httpcore

from clip_qdrant.errors import AddressRefused, first_line

__all__ = ["CheckedConnections", "is_public", "time_limit"]

_DEADLINE: ContextVar[float] = ContextVar("deadline")  # of the request that this thread is at, in monotonic seconds
# What Python's ipaddress, by version, takes for public.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocols of the IETF
        "192.88.99.0/24",  # relays of 6to4, given up (RFC 7526)
        "fec0::/10",  # site-local, given up (RFC 3879)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Everything that this thread does with a connection in this context has to be done within these seconds."""
    token = _DEADLINE.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


class CheckedConnections(httpcore.NetworkBackend):
    """Connects to the very address it has checked. The steps of a connection end with the `time_limit` around them."""

    def __init__(self, *, allow_private: bool = False) -> None:
        self._allow_private = allow_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the limit around all steps counts
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _look_up(host, port)
        if not self._allow_private:
            for address in addresses:
                if not is_public(address):
                    raise AddressRefused(
                        f"{host} {'is' if address == host else f'resolves to {address}, which is'} no public address; "
                        "--allow-private (allow_private=True) lets it be asked"
                    )
        failure: Exception | None = None
        for address in addresses:
            try:
                stream = httpcore.SyncBackend().connect_tcp(
                    address, port, timeout=_time_left(), local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream)
        raise failure or httpcore.ConnectError(f"the host {host} has no address")


class _TimedStream(httpcore.NetworkStream):
    """A connection whose every step has the time that is left to the request in hand: a slow drip ends in time too."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, timeout=_time_left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, timeout=_time_left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, timeout=_time_left()))

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _time_left() -> float:
    left = _DEADLINE.get() - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left


def is_public(text: str) -> bool:
    """Whether an address is one of the open internet, by the registries that Python's ipaddress follows."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _look_up(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except ValueError as error:  # UnicodeError, or a NUL
        raise AddressRefused(f"{host} is no name of a host") from error
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise httpcore.ConnectError(f"the host {host} cannot be looked up: {first_line(error)}") from error
        raise AddressRefused(f"the host {host} is not known: {first_line(error)}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
