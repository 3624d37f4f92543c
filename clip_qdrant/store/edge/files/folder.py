"""The folder of an embedded store: which collections it holds, and who may open them.

    <root>/store.json                        collections, how they are configured, aliases; replaced atomically
    <root>/store.lock                        held for the moment of a change to store.json
    <root>/collections/<name>-<8 hex>/       one engine shard a collection
    <root>/collections/<name>-<8 hex>.flushed   what it had on disk at its last flush (`flush_record.py`)
    <root>/collections/<name>-<8 hex>.lock   held as long as the shard is open, and somebody refers to its client

Clients of one process share what is open there (`open_shard.py`); another process is refused.

store.json is the only truth. A shard folder it does not list is what a crash left of an unfinished create, delete or
optimize, and is removed by the next create or opening. The engine has a lock of its own, which is not enough: an open
that it refuses has already damaged a journal of the shard, after which the holder's flush fails. So nobody may call
the engine before holding the lock file.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from qdrant_client import models
from qdrant_edge import EdgeShard

from clip_qdrant.errors import CollectionExists, ConfigError, StoreError, StoreFull
from clip_qdrant.store.edge.entry import CollectionEntry
from clip_qdrant.store.edge.files.catalog import Catalog
from clip_qdrant.store.edge.files.engine_errors import engine_errors
from clip_qdrant.store.edge.files.journal import RecordingShard
from clip_qdrant.store.edge.files.lock import FileLock
from clip_qdrant.store.edge.files.open_shard import OpenShard, share_store
from clip_qdrant.store.edge.files.room import NO_ROOM, check_room
from clip_qdrant.store.edge.files.shard_folders import ShardFolders, name_folder

__all__ = ["EdgeFolder"]

# What other kinds of Qdrant storage keep at their root: local mode of qdrant-client, and a server.
_FOREIGN = {"meta.json": "QdrantClient(path=...)", "raft_state.json": "a Qdrant server"}


class EdgeFolder:
    """The collections under one root folder. Opens a shard at its first use and keeps it open until `close`."""

    def __init__(self, root: Path) -> None:
        try:
            is_file = _exists(root) and not root.is_dir()
            is_new = not _exists(root / "store.json")
            owner = next((owner for name, owner in _FOREIGN.items() if is_new and _exists(root / name)), None)
        except OSError as error:
            raise StoreError(f"cannot look into {root}: {error}") from error
        if is_file:
            raise ConfigError(f"{root} is a file; the embedded store needs a folder")
        if owner is not None:
            raise ConfigError(f"{root} holds the storage of {owner}; give the embedded store another folder")
        self.root = root
        self._shared = share_store(root)
        self._shards = ShardFolders(self._shared.root)
        self._mutex, self._catalog = self._shared.mutex, self._shared.catalog
        self._open_shards: dict[str, OpenShard] = {}  # those that this client uses, by folder
        self._closed = False
        self._pid = os.getpid()

    def catalog(self) -> Catalog:
        """The collections and aliases that there are now."""
        self._check_usable()
        return self._catalog.read()

    @contextlib.contextmanager
    def edit(self) -> Iterator[Catalog]:
        """Change the catalog: no other client or process does at the same time. Saved when the block ends well."""
        with self._hold_store():
            catalog = self._catalog.copy()
            yield catalog
            self._catalog.write(catalog)

    def create(self, name: str, config: models.CreateCollection, metadata: dict[str, Any] | None) -> None:
        """Make an empty collection. A crash on the way leaves no collection."""
        with self._hold_store():
            catalog = self._catalog.copy()
            if name in catalog.collections or name in catalog.aliases:
                raise CollectionExists(f"there is a collection or an alias {name!r} already in {self.root}")
            self._shards.sweep(catalog.folders)
            check_room(self._shared.root, f"create collection {name!r}")
            self._catalog.write_first()
            entry = CollectionEntry(name_folder(name), config, metadata)
            opened = self._shards.create(entry, name)
            catalog.collections[name] = entry
            self._catalog.write(catalog)
            self._adopt(entry.folder, opened)

    def recreate(self, name: str, config: models.CreateCollection, metadata: dict[str, Any] | None) -> None:
        """Make a collection empty and as configured, whether there is one of that name or not; nobody makes one between
        the two steps."""
        with self._hold_store():
            self.delete(name)
            self.create(name, config, metadata)

    def delete(self, name: str) -> bool:
        """Remove a collection and the aliases that point to it; False if there is none of that name."""
        if name not in self.catalog().collections:
            return False
        with self._hold_store():
            catalog = self._catalog.copy()
            entry = catalog.collections.pop(name, None)
            if entry is None:
                return False
            self._open_shards.pop(entry.folder, None)
            opened = self._shared.shards.pop(entry.folder, None)
            if opened is not None:  # of this client or another one of this process, which finds it deleted
                with contextlib.suppress(Exception):  # what cannot be flushed is deleted all the same
                    opened.close()
            held = self._shards.lock(entry.folder, name)
            for alias in [alias for alias, target in catalog.aliases.items() if target == name]:
                del catalog.aliases[alias]
            self._catalog.write(catalog)
            self._shards.remove(entry.folder, held)
            return True

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[tuple[CollectionEntry, EdgeShard]]:
        """The collection's entry and its shard, for this thread alone until the block ends."""
        with self._hold_shard(name) as (entry, _, shard):
            yield entry, shard

    @contextlib.contextmanager
    def change(self, name: str) -> Iterator[tuple[CollectionEntry, EdgeShard, OpenShard]]:
        """The same for a block that writes: what it changed is flushed at times, and by closing."""
        with self._hold_shard(name, writes=True) as (entry, opened, shard):
            opened.changed = True
            yield entry, shard, opened

    @contextlib.contextmanager
    def reconfigure(
        self, name: str
    ) -> Iterator[tuple[CollectionEntry, EdgeShard, OpenShard, Callable[[models.CreateCollection], None]]]:
        """The same for a block that changes how the collection is configured: the function writes that down."""
        with self._hold_store(), self._hold_shard(name, writes=True) as (entry, opened, shard):

            def save(config: models.CreateCollection) -> None:
                catalog = self._catalog.copy()
                catalog.collections[catalog.resolve(name)] = replace(entry, config=config)
                self._catalog.write(catalog)

            opened.changed = True
            yield entry, shard, opened, save

    def check_room(self, name: str, size: Callable[[], int] = lambda: 0) -> None:
        """Raises StoreFull if the disk has no room to write `size()` bytes to a collection."""
        check_room(self._shared.root, f"write to collection {name!r}", size)

    @contextlib.contextmanager
    def _hold_shard(self, name: str, *, writes: bool = False) -> Iterator[tuple[CollectionEntry, OpenShard, EdgeShard]]:
        while True:
            real, opened = self._open_shard(name)
            with opened.writing if writes else contextlib.nullcontext(), opened.lock:
                # Read here, as others may have changed it while we waited: who does holds this lock.
                entry = self._catalog.read().collections.get(real)
                if opened.shard is not None and entry is not None and entry.folder == opened.path.name:
                    shard: Any = opened.shard
                    if writes and opened.journal is not None:
                        shard = RecordingShard(shard, opened.journal)
                    with engine_errors(f"use collection {name!r}"):
                        yield entry, opened, shard
                    return
            # Closed while we waited for it: this client was, the collection is deleted, or has another shard by now.

    def close(self) -> None:
        """Flush every open shard, and close those that no other client of this process uses.

        Does nothing in a forked child: the shards are its parent's.
        """
        if os.getpid() != self._pid:
            return
        if any(len(opened.users) > 1 for opened in list(self._open_shards.values())):
            gc.collect()  # perhaps they are used by clients that nobody can reach any more
        with self._mutex:
            self._closed = True
            opened, self._open_shards = list(self._open_shards.values()), {}
            with contextlib.ExitStack() as stack:  # closes them all, also when one cannot be flushed
                stack.enter_context(engine_errors(f"close {self.root}"))
                for shard in opened:
                    stack.callback(shard.leave, self)

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(
                f"the embedded store {self.root} was opened before this process was forked, and the engine does not "
                "survive a fork; start workers with the spawn method, or send the work to the process that opened it"
            )
        if self._closed:
            raise StoreError(f"the embedded store {self.root} is closed; make a new EdgeClient")

    @contextlib.contextmanager
    def _hold_store(self) -> Iterator[None]:
        self._check_usable()
        with self._mutex:
            self._check_usable()
            if self._shared.is_locked:
                yield
                return
            try:
                self._shards.path.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self._shared.root / "store.lock", wait=True)
                try:
                    self._shared.is_locked = True
                    yield
                finally:
                    self._shared.is_locked = False
                    lock.unlock()
            except OSError as error:
                kind = StoreFull if error.errno in NO_ROOM else StoreError
                raise kind(f"cannot write to {self.root}: {error}") from error

    def _open_shard(self, name: str) -> tuple[str, OpenShard]:
        """The name of a collection, which is not `name` where that is an alias, and its shard."""
        with self._mutex:
            while True:
                catalog = self.catalog()
                real = catalog.resolve(name)
                entry = catalog.collections[real]
                opened = self._find_open(real, entry.folder)
                if opened is not None:
                    return real, opened
                held = self._shards.lock(entry.folder, real)
                now = self.catalog().collections.get(real)
                if now is not None and now.folder == entry.folder:
                    break
                # Deleted, perhaps made anew, by another process between our look at the catalog and getting the lock.
                self._shards.remove(entry.folder, held)
            if self._shards.has_others(self._catalog.read().folders):  # left by a kill, copies of whole collections
                with self._hold_store():
                    self._shards.sweep(self._catalog.read().folders)
            try:
                return real, self._adopt(entry.folder, self._shards.load(entry.folder, held, real))
            except BaseException:
                held.release()
                raise

    # For `repair.py`

    @contextlib.contextmanager
    def hold_closed(self, name: str) -> Iterator[tuple[CollectionEntry, Path]]:
        """The entry of a collection and the folder of its shard, which nobody opens until the block ends."""
        with self._mutex:
            entry = self.catalog().collections.get(name)
            if entry is None:
                raise self.catalog().not_found(name)
            held = self._shards.lock(entry.folder, name)
            try:
                yield entry, self._shards.path / entry.folder
            finally:
                held.release()

    def make_replacement(self, name: str, entry: CollectionEntry) -> tuple[CollectionEntry, OpenShard]:
        """An empty shard to take the place of the collection's own (`put_in_place`)."""
        check_room(self._shared.root, f"make a copy of collection {name!r}")
        new = replace(entry, folder=name_folder(name))
        with self._hold_store():  # nobody sweeps it before its lock is held
            return new, self._shards.create(new, name)

    def put_in_place(self, name: str, new: CollectionEntry, opened: OpenShard) -> Path | None:
        """Has the collection be another shard from now on. Gives where the files of the one before lie, if any did."""
        opened.flush()
        with self.edit() as catalog:
            old, catalog.collections[name] = catalog.collections[name].folder, new
        opened.close()  # not before: its lock keeps what nobody lists yet from being swept
        return self._shards.set_aside(old)

    # For `optimize.py`

    def path_of(self, entry: CollectionEntry) -> Path:
        """The folder of a collection's shard."""
        return self._shards.path / entry.folder

    @contextlib.contextmanager
    def hold_successor(self, name: str) -> Iterator[tuple[OpenShard, Path, FileLock]]:
        """The shard of a collection, and the folder, not made yet, of one to take its place, with the lock of that.

        What lies in the folder is removed at the end unless `succeed` made it the collection's own.
        """
        real, opened = self._open_shard(name)
        folder = name_folder(real)
        with self._hold_store():
            self._shards.sweep(self._catalog.read().folders)
            held = self._shards.lock(folder, name)
        try:
            yield opened, self._shards.path / folder, held
        finally:
            if folder not in self._catalog.read().folders:
                self._shards.remove(folder, held)

    def entry_of(self, opened: OpenShard) -> CollectionEntry | None:
        """The entry of the collection whose shard this is; None if it is deleted."""
        entries = self._catalog.read().collections.values()
        return next((entry for entry in entries if entry.folder == opened.path.name), None)

    def succeed(self, name: str, old: OpenShard, new: OpenShard) -> None:
        """Has a collection be another shard from now on, with all that was written to its own up to this moment.

        Reads and writes wait for it. Raises StoreError, and leaves all as it was, if the collection was closed or
        deleted meanwhile.
        """
        assert old.journal is not None
        assert new.shard is not None
        with self._hold_store(), old.writing, old.lock:
            catalog = self._catalog.copy()
            real = next((key for key, one in catalog.collections.items() if one.folder == old.path.name), None)
            if old.shard is None or real is None:
                raise StoreError(f"collection {name!r} was closed or deleted meanwhile")
            new.changed = True
            old.journal.apply(new.shard.update)
            new.flush()
            catalog.collections[real] = replace(catalog.collections[real], folder=new.path.name)
            self._catalog.write(catalog)
            self._open_shards.pop(old.path.name, None)
            self._shared.shards.pop(old.path.name, None)
            self._adopt(new.path.name, new)
            shard, held = old.detach()
        with contextlib.suppress(Exception):  # nobody needs it any more
            shard.close()
        self._shards.remove(old.path.name, held)

    def _adopt(self, folder: str, opened: OpenShard) -> OpenShard:
        opened.users.add(self)
        self._shared.shards[folder] = self._open_shards[folder] = opened
        return opened

    def _find_open(self, name: str, folder: str) -> OpenShard | None:
        """The shard that this process has open, by this client or another."""
        opened = self._shared.shards.get(folder)
        if opened is None:
            return None
        if self._open_shards.get(folder) is not opened or opened.shard is None:
            with opened.lock:  # the last of its users may be closing it
                if opened.shard is None:
                    return None
                self._adopt(folder, opened)
        if not opened.is_in_place():
            raise StoreError(
                f"the files of collection {name!r} of {self.root} were removed or replaced while this process had it "
                "open; start the process anew"
            )
        return opened


def _exists(path: Path) -> bool:
    """Whether the path is there. Raises OSError where that cannot be told; Path.exists() of Python 3.14 says no."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
