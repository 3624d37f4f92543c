"""SharedEdgeClient: an embedded store that several processes use at once, behind the methods of EdgeClient.

    with SharedEdgeClient("./qdrant-data") as client:
        client.count("photos")

The first call joins the process that has the store open, or starts one; it ends with the last of its users. Every
method of EdgeClient runs there, and its answer or its error comes back. Where the process was killed, the call it had
in hand raises StoreUnavailable, and the next one starts another: every acknowledged write is there.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from qdrant_client.client_base import QdrantBase

from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.process.link import StoreLink

__all__ = ["SharedEdgeClient"]


class SharedEdgeClient(QdrantBase):
    """Collections in a local folder, which other processes may use too. Safe to use from several threads and forks.

    Raises ConfigError and StoreError as EdgeClient does.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__()
        EdgeClient(path)  # opens nothing, and raises what is wrong with the folder
        self._path = path
        self._link = StoreLink(Path(os.path.realpath(Path(path).expanduser())))

    def __enter__(self) -> SharedEdgeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SharedEdgeClient({str(self._path)!r})"

    def close(self, grpc_grace: float | None = None, **kwargs: Any) -> None:
        """Leave the store; the last of its users returns once it is flushed and closed. Any call after it raises
        StoreError."""
        self._link.close()


def _forward(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def forward(self: SharedEdgeClient, /, *arguments: Any, **options: Any) -> Any:
        return self._link.call(name, arguments, options)

    return forward


# All that EdgeClient offers, whatever comes to it.
for _name, _method in inspect.getmembers(EdgeClient, inspect.isfunction):
    if not _name.startswith("_") and _name not in vars(SharedEdgeClient):
        setattr(SharedEdgeClient, _name, _forward(_name, _method))
