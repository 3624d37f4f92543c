"""Shards that this process has open, shared by its clients: the second client of a folder gets the shards of the first.

A notebook cell that is run twice makes a second client while the first is still open, or is garbage that nobody has
collected yet. The engine cannot open a shard twice, so clients of one process share what is open there.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from pathlib import Path

from qdrant_edge import EdgeShard

from clip_qdrant.store.edge.files.catalog import CatalogFile
from clip_qdrant.store.edge.files.flush_record import FlushRecord, path_of_record
from clip_qdrant.store.edge.files.journal import Journal
from clip_qdrant.store.edge.files.lock import FileLock

__all__ = ["OpenShard", "SharedStore", "share_store"]


class OpenShard:
    """A shard this process has open. `shard` becomes None once it is closed, under `lock`.

    It is closed when the last of its `users` lets go of it. One that is dropped without that is closed when it is
    collected, so that it keeps nobody out: the shard first, then the lock, even where a part of the garbage still
    refers to the shard. What was written is in the engine's log.
    """

    def __init__(self, shard: EdgeShard, held: FileLock, path: Path, record: FlushRecord) -> None:
        self.shard: EdgeShard | None = shard
        self.lock = threading.RLock()
        self.writing = threading.RLock()  # held by whoever writes, and taken before `lock`
        self.journal: Journal | None = None  # of what is written, while a copy is made that will take its place
        self.users: weakref.WeakSet[object] = weakref.WeakSet()
        self.changed = False
        self.unflushed = 0  # points changed since the last flush
        self._held = held
        self.path, self._record = path, record
        self._finalizer = weakref.finalize(self, _abandon, shard, held, os.getpid())
        self._finalizer.atexit = False  # the system does it then

    def is_in_place(self) -> bool:
        """Whether its files are still those of its path: others may lie there by now."""
        return self._held.is_in_place()

    def flush(self) -> None:
        """Writes to disk what changed since the last time. A flush costs 0.1 s, nothing where nothing changed."""
        with self.lock:
            if self.changed and self.shard is not None:
                self.shard.flush()
                self._record.update(self.path, self.shard.info().points_count)
                self._record.write(path_of_record(self.path))
                if self.journal is not None:
                    self.journal.count(self.unflushed)
                self.changed, self.unflushed = False, 0

    def forget_vector(self, name: str) -> None:
        """Takes the files of the vectors of a name from the record: they may go."""
        with self.lock:
            for folder in ("vector_storage", "vector_index"):
                self._record.forget(f"{folder}-{name}" if name else folder)
            self._record.write(path_of_record(self.path))
            self.changed = True

    def leave(self, user: object) -> None:
        """Lets go of it: flushes and, if nobody else of this process uses it, closes."""
        with self.lock:
            self.users.discard(user)
            if self.users:
                self.flush()
            else:
                self.close()

    def close(self) -> None:
        """Flushes and closes, whoever uses it."""
        with self.lock:
            if self.shard is None:
                return
            try:
                self.flush()
            finally:
                shard, held = self.detach()
                shard.close()
                held.release()

    def detach(self) -> tuple[EdgeShard, FileLock]:
        """The shard and its lock, which the caller closes and releases; for all others it is closed from now on."""
        with self.lock:
            assert self.shard is not None
            shard, self.shard = self.shard, None
            self._finalizer.detach()
            return shard, self._held


def _abandon(shard: EdgeShard, held: FileLock, owner: int) -> None:
    if os.getpid() == owner:  # in a forked child the shard is the parent's
        with contextlib.suppress(Exception):  # its folder may be gone, and nobody is there to be told
            shard.close()
        held.release()


class SharedStore:
    """What all clients of one folder share within a process. `mutex` is held to open, create and delete.

    `is_locked` says whether who has the mutex holds the lock of the store too: it would wait for itself a second time.
    """

    def __init__(self, root: Path) -> None:
        self.root = root  # absolute, so that it stays where it is when the working folder changes
        self.catalog = CatalogFile(root)
        self.mutex = threading.RLock()
        self.is_locked = False
        # By the name of the shard's folder. Only clients keep a shard alive, so that one that is forgotten closes it.
        self.shards: weakref.WeakValueDictionary[str, OpenShard] = weakref.WeakValueDictionary()


class _Stores:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_path: weakref.WeakValueDictionary[str, SharedStore] = weakref.WeakValueDictionary()


# By process: a forked child starts with none, and with a lock that nobody holds.
_stores: dict[int, _Stores] = {}


def share_store(root: Path) -> SharedStore:
    """The store of this folder in this process, whichever way the path is written."""
    stores = _stores.setdefault(os.getpid(), _Stores())
    path = os.path.realpath(root)
    with stores.lock:
        store = stores.by_path.get(path)
        if store is None:
            store = stores.by_path[path] = SharedStore(Path(path))
        return store
