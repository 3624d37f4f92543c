"""The folders of the shards of a store, each with the lock that whoever calls the engine on it has to hold."""

from __future__ import annotations

import contextlib
import gc
import re
import secrets
import shlex
import shutil
from collections.abc import Collection
from pathlib import Path

from qdrant_edge import EdgeShard

from clip_qdrant.errors import StoreDamaged, StoreError, StoreLocked
from clip_qdrant.store.edge.convert.configs import create_shard
from clip_qdrant.store.edge.entry import CollectionEntry
from clip_qdrant.store.edge.files.engine_errors import engine_errors
from clip_qdrant.store.edge.files.flush_record import FlushRecord, path_of_record, read_record
from clip_qdrant.store.edge.files.lock import FileLock, is_held
from clip_qdrant.store.edge.files.open_shard import OpenShard
from clip_qdrant.store.edge.files.room import check_room_to_open

__all__ = ["ShardFolders", "name_folder"]


def name_folder(collection: str) -> str:
    """A new name for the folder of a shard of this collection."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', collection)[:40]}-{secrets.token_hex(4)}"


class ShardFolders:
    """Those below `<root>/collections`. They are given by name; `collection` is for messages."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = root / "collections"

    def lock(self, folder: str, collection: str) -> FileLock:
        """Raises StoreLocked if somebody has it, StoreError."""
        path = self.path / f"{folder}.lock"
        try:
            try:
                return FileLock(path, wait=False)
            except OSError as error:
                if not is_held(error):
                    raise
            # Perhaps by a client of this process that nobody can reach any more: a caught exception leaves frames that
            # refer to it and to each other, and what is in a circle is not collected at once.
            gc.collect()
            return FileLock(path, wait=False)
        except OSError as error:
            if is_held(error):
                raise StoreLocked(
                    f"collection {collection!r} of {self._root} is open in another process, or in a child forked from "
                    "this one; close it there, or open it there by connect(…, shared=True), which lets those join who "
                    "connect after that, or let both share a Qdrant server (docker compose up -d qdrant)"
                ) from error
            raise StoreError(
                f"cannot open collection {collection!r}: {error}; the embedded store must be able to write to "
                f"{self.path}"
            ) from error

    def create(self, entry: CollectionEntry, collection: str) -> OpenShard:
        """An empty shard, on disk. Raises StoreError."""
        held, path = self.lock(entry.folder, collection), self.path / entry.folder
        with engine_errors(f"create collection {collection!r}"):
            opened = OpenShard(create_shard(path, entry), held, path, FlushRecord())
            opened.changed = True
            opened.flush()
        return opened

    def load(self, folder: str, held: FileLock, collection: str) -> OpenShard:
        """The shard in a folder whose lock is held. Raises StoreDamaged, StoreFull, StoreError."""
        path = self.path / folder
        mend = f"`clip-qdrant repair --location {shlex.quote(str(self._root))}` keeps what can be read"
        with engine_errors(f"open collection {collection!r} in {path}", advice=f"; if its files are damaged, {mend}"):
            if not path.is_dir():
                raise StoreError(f"cannot open collection {collection!r}: No such file or directory: {path}")
            check_room_to_open(self._root, path)
            try:
                record = read_record(path)
                damage = record.find_damage(path)  # before the engine changes anything
            except StoreDamaged as error:
                raise StoreDamaged(f"collection {collection!r} of {self._root} is damaged: {error}; {mend}") from error
            if damage is not None:
                raise StoreDamaged(
                    f"collection {collection!r} of {self._root} is damaged: {damage}, when it held {record.points} "
                    f"points; {mend}, and the next ingest brings what is missing"
                )
            return OpenShard(EdgeShard.load(str(path)), held, path, record)

    def remove(self, folder: str, held: FileLock) -> None:
        """Removes a folder and all files of its name, and lets go of its lock."""
        shutil.rmtree(self.path / folder, ignore_errors=True)
        held.release()
        for pattern in (f"{folder}.*", f".{folder}.*"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)

    def set_aside(self, folder: str) -> Path | None:
        """Moves a folder to `<root>/damaged`. None if there is none."""
        path, aside = self.path / folder, self._root / "damaged" / folder
        if not path.exists():
            return None
        aside.parent.mkdir(exist_ok=True)
        path.rename(aside)
        path_of_record(path).unlink(missing_ok=True)
        return aside

    def has_others(self, listed: Collection[str]) -> bool:
        """Whether there are folders beside those listed."""
        return any(path.is_dir() and path.name not in listed for path in self.path.iterdir())

    def sweep(self, listed: Collection[str]) -> None:
        """Removes what is not listed and not in use."""
        for path in list(self.path.iterdir()):
            folder = path.name.lstrip(".").partition(".")[0]
            if folder not in listed and path.exists():
                with contextlib.suppress(BlockingIOError, PermissionError):  # in use, or of another user
                    self.remove(folder, FileLock(self.path / f"{folder}.lock", wait=False))
