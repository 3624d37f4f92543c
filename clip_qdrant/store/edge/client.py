"""EdgeClient: an embedded Qdrant (qdrant-edge-py) behind the methods of qdrant_client.QdrantClient.

    with EdgeClient("./qdrant-data") as client:
        client.create_collection("photos", models.VectorParams(size=512, distance=models.Distance.COSINE))

One process at a time may have a collection open; each is opened at its first use. Clients of one process share what is
open: the second works as the first does, and closing one leaves the other open. Every acknowledged write is in the
engine's write-ahead log and survives the death of the process. What the engine cannot do raises UnsupportedByEdge.
The engine's optimize() is called in a child process alone (`optimize`), as it holds the interpreter lock for minutes.
Without it search is exact: 30 to 50 ms at 100,000 points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import Any

from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import UnsupportedByEdge
from clip_qdrant.store.edge.aliases import EdgeAliases
from clip_qdrant.store.edge.collections import check_options
from clip_qdrant.store.edge.indexes import EdgeIndexes
from clip_qdrant.store.edge.optimize import Optimization, OptimizeStep, explain_gain, optimize_collection
from clip_qdrant.store.edge.points import EdgePoints
from clip_qdrant.store.edge.queries import EdgeQueries
from clip_qdrant.store.edge.reads import EdgeReads

__all__ = ["EdgeClient"]


class EdgeClient(EdgePoints, EdgeReads, EdgeQueries, EdgeIndexes, EdgeAliases):
    """Collections in a local folder. Safe to use from several threads; not across a fork.

    `path` is made with the first write. Raises ConfigError if it is a file or the storage of another Qdrant,
    StoreError if the system does not let us look.
    """

    def __enter__(self) -> EdgeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EdgeClient({str(self._folder.root)!r})"

    def optimize(
        self,
        collection_name: str,
        *,
        quantize: bool = True,
        on_progress: Callable[[OptimizeStep], None] | None = None,
    ) -> Optimization:
        """Reclaim the space of deleted points and build the vector index, while the collection is read and written.

        A child process does the work on a copy of the files, which then takes the place of the collection's: minutes
        for a million points. Killed at any moment it leaves the collection as it was. The index keeps each number of a
        vector as a byte too, which makes it faster to build and to search, unless `quantize` is false or the collection
        has a quantization of its own. `on_progress` is called in this thread, some times a second.

        Raises StoreFull, before it starts, if the disk has no room for the copy.
        """
        tell = on_progress or (lambda _: None)
        return optimize_collection(self._folder, collection_name, tell, quantize=quantize)

    def explain_optimize(self, collection_name: str) -> str | None:
        """What `optimize` would bring, in words; None if it would not pay. Costs about as much as counting."""
        return explain_gain(self._folder, collection_name)

    def close(self, grpc_grace: float | None = None, **kwargs: Any) -> None:
        """Flush all collections, and close those that no other client of this process uses. Any call after it raises
        StoreError."""
        check_options(kwargs)
        self._folder.close()

    # There is nothing that could have made a snapshot: the engine restores those of a server, and makes none.

    def list_snapshots(self, collection_name: str, **kwargs: Any) -> list[models.SnapshotDescription]:
        return []

    def list_full_snapshots(self, **kwargs: Any) -> list[models.SnapshotDescription]:
        return []

    def list_shard_snapshots(
        self, collection_name: str, shard_id: int, **kwargs: Any
    ) -> list[models.SnapshotDescription]:
        return []


def _refusal(name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(QdrantClient, name))  # its signature, for those who look
    def refuse(_self: EdgeClient, *_args: Any, **_kwargs: Any) -> Any:
        raise UnsupportedByEdge(_REFUSED.get(name, name))

    refuse.__doc__ = "Raises UnsupportedByEdge."
    return refuse


# What the names of methods do not tell by themselves.
_REFUSED = {
    "create_snapshot": "snapshots (create_snapshot; copying the folder of the closed store makes a backup too)",
    "get_optimizations": "a report on optimizations (get_optimizations), as none runs beside others",
}


# All that QdrantBase declares and is not written above, in whichever version of it is installed.
for _name in vars(QdrantBase):
    if not _name.startswith("_") and getattr(EdgeClient, _name) is getattr(QdrantBase, _name):
        setattr(EdgeClient, _name, _refusal(_name))
