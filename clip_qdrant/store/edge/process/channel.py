"""A socket between a user of a store and who has it open: proof that both know the token, then messages of bytes."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import struct

__all__ = ["StoreChannel", "admit", "introduce", "new_user"]

_LENGTH = struct.Struct("!Q")
_NONCE = 32  # bytes
_USER = 16  # bytes
_PROOF = 32  # bytes, of sha256
# A stranger who says nothing, or half of it, is put out after this. Nothing is unpickled before.
_SECONDS_TO_PROVE = 10.0
# The engine holds the interpreter lock of the process that answers, for some seconds where it opens a large shard.
_SECONDS_TO_BE_ADMITTED = 60.0


class StoreChannel:
    """Sends and receives messages whole. One thread at a time. Raises OSError once the other side is gone."""

    def __init__(self, connection: socket.socket, user: bytes) -> None:
        self.user = user
        self._socket = connection

    def send(self, message: bytes) -> None:
        header = _LENGTH.pack(len(message))
        if len(message) < 1 << 16:
            self._socket.sendall(header + message)
        else:
            self._socket.sendall(header)
            self._socket.sendall(message)

    def receive(self) -> bytearray:
        [size] = _LENGTH.unpack(_read(self._socket, _LENGTH.size))
        return _read(self._socket, size)

    def end(self) -> None:
        """Has both sides read no more, also one that waits in `receive` now."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    __del__ = close


def new_user() -> bytes:
    """A name for a user, which goes with each of its channels."""
    return secrets.token_bytes(_USER)


def introduce(connection: socket.socket, token: bytes, user: bytes) -> StoreChannel:
    """The side of the user: proves that it knows the token, and has the other side prove it too.

    Raises PermissionError if it does not, another OSError if it ends before.
    """
    connection.settimeout(_SECONDS_TO_BE_ADMITTED)
    theirs, ours = bytes(_read(connection, _NONCE)), secrets.token_bytes(_NONCE)
    connection.sendall(ours + user + _prove(token, b"user", theirs, ours, user))
    if not hmac.compare_digest(_read(connection, _PROOF), _prove(token, b"store", theirs, ours, user)):
        raise PermissionError("the other side does not know the token")
    return _open(connection, user)


def admit(connection: socket.socket, token: bytes) -> StoreChannel:
    """The side that has the store open. Raises PermissionError for a stranger, another OSError if it ends before."""
    connection.settimeout(_SECONDS_TO_PROVE)
    ours = secrets.token_bytes(_NONCE)
    connection.sendall(ours)
    theirs, user = bytes(_read(connection, _NONCE)), bytes(_read(connection, _USER))
    if not hmac.compare_digest(_read(connection, _PROOF), _prove(token, b"user", ours, theirs, user)):
        raise PermissionError("the other side does not know the token")
    connection.sendall(_prove(token, b"store", ours, theirs, user))
    return _open(connection, user)


def _open(connection: socket.socket, user: bytes) -> StoreChannel:
    connection.settimeout(None)
    if connection.family != getattr(socket, "AF_UNIX", None):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return StoreChannel(connection, user)


def _prove(token: bytes, *said: bytes) -> bytes:
    return hmac.digest(token, b"".join(said), "sha256")


def _read(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    left = memoryview(data)
    while left:
        count = connection.recv_into(left)
        if not count:
            raise ConnectionResetError("the other side has ended")
        left = left[count:]
    return data
