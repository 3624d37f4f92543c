"""Where a store is answered for: the folder `process` of the store, and a socket.

    <root>/process/lock          held by whoever answers for the store, as long as it does
    <root>/process/start.lock    held by a user that starts a process
    <root>/process/address       the socket, the token, the versions of the code; only its user may read it (0600)
    <root>/process/<8 hex>.log   what a process said that failed

The socket lies among the temporary files, in a folder of its own (0700): a path in the store may be too long for one
(108 bytes), and not every file system has sockets. Where the system has none it is a port of the loopback address.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from clip_qdrant.store.edge.files.lock import FileLock, is_held

__all__ = [
    "StoreAddress",
    "connect_to",
    "is_answered",
    "is_taken",
    "listen",
    "make_folder",
    "process_folder",
    "versions",
]

_PREFIX = "clip-qdrant-"
_LONGEST = 90  # bytes of the path of a socket
_WAITING = 128  # users that connect at once
_DISTRIBUTIONS = ("clip-qdrant", "qdrant-client")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where a store is answered for, by which process. `path` is a Unix socket's; without, `port` is of 127.0.0.1."""

    path: str | None
    port: int | None
    token: str
    pid: int
    host: str
    code: dict[str, str]

    @staticmethod
    def read(root: Path) -> StoreAddress | None:
        """What a store says. None if it says nothing, or not to this user; what it says may be out of date."""
        try:
            return StoreAddress(**json.loads((process_folder(root) / "address").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, root: Path) -> None:
        # Not by open_replacement, which makes files that everybody may read.
        handle, temporary = tempfile.mkstemp(dir=process_folder(root), prefix=".address.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        Path(temporary).replace(process_folder(root) / "address")

    def remove(self, root: Path) -> None:
        """Removes the address and its socket. Whoever does holds the lock.

        Where the folder of the store was deleted meanwhile and another process answers for what is there now, the
        address is of that one and stays.
        """
        if StoreAddress.read(root) == self:
            (process_folder(root) / "address").unlink(missing_ok=True)
        if self.path is not None and Path(self.path).parent.name.startswith(_PREFIX):
            shutil.rmtree(Path(self.path).parent, ignore_errors=True)


def process_folder(root: Path) -> Path:
    return root / "process"


def make_folder(root: Path) -> Path:
    """The folder of the process, for its user alone."""
    folder = process_folder(root)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def is_answered(root: Path) -> bool:
    """Whether somebody answers for a store now."""
    return _is_locked(root, "address")


def is_taken(root: Path) -> bool:
    """The same, also of who begins to answer, or has ceased to and closes the store."""
    return _is_locked(root, "lock")


def _is_locked(root: Path, said_by: str) -> bool:
    folder = process_folder(root)
    try:
        if (folder / said_by).exists():
            FileLock(folder / "lock", wait=False).unlock()
    except OSError as error:  # held, or the folder is not for this user to look into
        return is_held(error)
    return False


@functools.cache
def versions() -> dict[str, str]:
    """What both sides of a socket must have the same of, as they send each other objects of these."""
    return {name: _version(name) for name in _DISTRIBUTIONS}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # imported from a folder that was never installed
        return "0"


def listen(*, by_port: bool = False) -> tuple[socket.socket, str | None, int | None]:
    """A socket that others may connect to, and its path or its port."""
    if hasattr(socket, "AF_UNIX") and not by_port:
        # The usual place may be deep down, as on macOS, where that of the system is not.
        for place in (None, "/tmp"):  # noqa: S108  mkdtemp makes a folder that nobody else may look into
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            path = str(folder / "store")
            if len(os.fsencode(path)) <= _LONGEST:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listener.bind(path)
                listener.listen(_WAITING)
                return listener, path, None
            folder.rmdir()
    listener = socket.create_server(("127.0.0.1", 0), backlog=_WAITING)
    return listener, None, listener.getsockname()[1]


def connect_to(address: StoreAddress) -> socket.socket | None:
    """A socket to where a store is answered for; None if nobody answers there any more."""
    if address.path is None:
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", address.port or 0), timeout=5)
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address.path)
    except OSError:
        connection.close()
        return None
    return connection
