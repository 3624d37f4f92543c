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

from clip_qdrant.errors import StoreError
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.lock import FileLock, is_held
from clip_qdrant.store.edge.process.address import make_folder
from clip_qdrant.store.edge.process.client import SharedEdgeClient
from clip_qdrant.store.edge.process.server import StoreServer

__all__ = ["host_store"]


def host_store(path: str | PathLike[str]) -> QdrantBase:
    """A client of a store that others may join as long as it is open. If somebody else answers for it: one that joins.

    Raises ConfigError and StoreError as EdgeClient does.
    """
    client = HostEdgeClient(path)
    root = Path(os.path.realpath(Path(path).expanduser()))
    try:
        lock = FileLock(make_folder(root) / "lock", wait=False)
    except OSError as error:
        if is_held(error):
            return SharedEdgeClient(path)
        raise StoreError(f"cannot write to {root}: {error}") from error
    client.begin(root, lock)
    return client


class HostEdgeClient(EdgeClient):
    """An EdgeClient that answers for its store, from `begin` until it is closed. Made by `host_store`."""

    def begin(self, root: Path, lock: FileLock) -> None:
        self._lock = lock
        # A client of its own: clients of one process share what is open.
        self._server = StoreServer(EdgeClient(root), root, is_process=False)

    def close(self, grpc_grace: float | None = None, **kwargs: Any) -> None:
        """Finishes what others have in hand, and closes the store."""
        self._server.close()
        try:
            super().close(**kwargs)
        finally:
            self._lock.release()
