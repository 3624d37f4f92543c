"""A store that a program has open itself, while others may join it: what one long run needs.

The program pays nothing for it: no process, and its own calls go straight to the engine. Those of others are answered
in threads of it, and go to a process of their own once it has ended.
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Any

from qdrant_client.client_base import QdrantBase

from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.lock import FileLock, is_held
from clip_qdrant.store.edge.process.address import make_folder
from clip_qdrant.store.edge.process.client import SharedEdgeClient
from clip_qdrant.store.edge.process.server import StoreServer

__all__ = ["host_store"]


def host_store(path: str | PathLike[str]) -> QdrantBase:
    """A client of a store that others may join as long as it is open. If somebody else answers for it: one that joins.

    Where nobody can join, as the system gives no lock or no socket for it, it is an EdgeClient as any other. Raises
    ConfigError and StoreError as that does.
    """
    client = HostEdgeClient(path)
    root = Path(os.path.realpath(Path(path).expanduser()))
    try:
        lock = FileLock(make_folder(root) / "lock", wait=False)
    except OSError as error:
        return SharedEdgeClient(path) if is_held(error) else client
    try:
        client.begin(root, lock)
    except OSError:
        lock.release()
    return client


class HostEdgeClient(EdgeClient):
    """An EdgeClient that answers for its store, from `begin` until it is closed. Made by `host_store`."""

    _server: StoreServer | None = None

    def begin(self, root: Path, lock: FileLock) -> None:
        # A client of its own: clients of one process share what is open.
        self._server = StoreServer(EdgeClient(root), root, is_process=False)
        self._lock, self._owner = lock, os.getpid()

    def close(self, grpc_grace: float | None = None, **kwargs: Any) -> None:
        """Finishes what others have in hand, and closes the store. Does nothing in a forked child."""
        server, self._server = self._server, None
        if server is None or os.getpid() != self._owner:
            super().close(**kwargs)
            return
        server.close()
        try:
            super().close(**kwargs)
        finally:
            self._lock.release()
