"""store.json: the collections of an embedded store, their metadata and aliases. Read whole, replaced atomically."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from clip_qdrant.errors import CollectionNotFound, StoreDamaged, StoreError
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = ["Catalog", "CatalogFile"]

_FORMAT = 2
_WAY_OUT = "upgrade clip-qdrant, or ingest into another folder (--location)"


@dataclass(frozen=True, slots=True)
class Catalog:
    """What store.json says: collections by name, and the collection behind each alias."""

    collections: dict[str, CollectionEntry] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> set[str]:
        """Those of the shards of all collections."""
        return {entry.folder for entry in self.collections.values()}

    def resolve(self, name: str) -> str:
        """The collection that `name`, a collection or an alias, stands for."""
        real = self.aliases.get(name, name)
        if real not in self.collections:
            raise self.not_found(name)
        return real

    def not_found(self, name: str) -> CollectionNotFound:
        """The error to raise for a name that is neither a collection nor an alias."""
        there = ", ".join(sorted(self.collections)) or "none yet"
        return CollectionNotFound(f"there is no collection {name!r}; collections here: {there}")


class CatalogFile:
    """store.json of one store. Whoever writes it holds the store's lock."""

    def __init__(self, root: Path) -> None:
        self._path = root / "store.json"
        self._last_read: tuple[tuple[int, int, int], Catalog] | None = None

    def read(self) -> Catalog:
        """What the file says now; it is read again only after it changed. Without a file there are no collections."""
        path = self._path
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if self._last_read is not None and self._last_read[0] == stamp:
                return self._last_read[1]
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            if not any(one.is_dir() for one in path.parent.glob("collections/*")):
                return Catalog()
            if path.exists():  # made since we looked, before the first collection was
                return self.read()
            raise StoreDamaged(
                f"{path} is gone, though there are collections beside it; put it back from a backup, or ingest "
                "into another folder (--location)"
            ) from error
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error}") from error
        try:
            data = json.loads(text.decode())
            if data["format"] != _FORMAT:
                raise StoreError(f"{path} has format {data['format']!r}, this version reads {_FORMAT}; {_WAY_OUT}")
            entries = {name: CollectionEntry.from_json(entry) for name, entry in data["collections"].items()}
            found = Catalog(entries, dict(data["aliases"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreDamaged(f"{path} is damaged ({error}); restore it from a backup") from error
        self._last_read = (stamp, found)
        return found

    def copy(self) -> Catalog:
        """What the file says now, for changing."""
        now = self.read()
        return Catalog(dict(now.collections), dict(now.aliases))

    def write_first(self) -> None:
        """Makes the file if there is none yet: from then on one that is missing is damage."""
        if not self._path.exists():
            self.write(Catalog())

    def write(self, catalog: Catalog) -> None:
        """Replace the file. After a crash it holds the old catalog or the new one."""
        collections = {name: entry.to_json() for name, entry in catalog.collections.items()}
        data = {"format": _FORMAT, "collections": collections, "aliases": catalog.aliases}
        temporary = self._path.with_suffix(".json.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        if sys.platform != "win32":  # the rename itself is durable only once the folder is synced
            fd = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
