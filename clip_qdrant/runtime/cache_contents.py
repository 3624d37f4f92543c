"""What lies in the cache folder: exports, the models they are of, and what killed exports and old layouts left."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clip_qdrant.checkpoint_file.read import CheckpointFile
from clip_qdrant.errors import CheckpointError, ExportError
from clip_qdrant.runtime.export_cache import ExportCache

__all__ = ["CacheContents", "CachedExport", "find_unneeded", "list_contents", "remove"]

_OLD = ("sources",)  # beside exports: of versions that kept an export as a folder


@dataclass(frozen=True)
class CachedExport:
    """One export: the models it was made of, as they were named, and when it was last opened.

    `made_with` is None for a file that is damaged or of another version. An export is `orphaned` if nothing that is
    there now can need it: no model is noted for it, or only files and folders that are gone.
    """

    path: Path
    bytes: int
    last_used: datetime
    sources: tuple[str, ...]
    made_with: str | None
    orphaned: bool

    @property
    def fingerprint(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class CacheContents:
    """`leftovers` are files and folders that no export needs: halves that killed processes left, and old layouts."""

    folder: Path
    exports: tuple[CachedExport, ...]
    leftovers: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        return sum(export.bytes for export in self.exports) + self.leftover_bytes

    @property
    def leftover_bytes(self) -> int:
        return sum(map(measure, self.leftovers))


def list_contents(folder: Path) -> CacheContents:
    """What a cache folder holds; it need not exist. The state of ingestion, which may lie in it, is no part of it."""
    cache = ExportCache(folder)
    sources: dict[str, set[str]] = {}
    for note in cache.notes:
        if not Path(note.source).is_relative_to(cache.exports.resolve()):  # an export is noted as checked, too
            sources.setdefault(note.fingerprint, set()).add(note.source)
    exports, leftovers = [], [folder / name for name in _OLD if (folder / name).exists()]
    for path in sorted(cache.exports.glob("*")) if cache.exports.is_dir() else ():
        if path.suffix == ".pt" and path.is_file() and not path.name.startswith("."):
            used = cache.notes.find_last_use(str(cache.exports.resolve() / path.name))
            exports.append(_describe(path, sources.get(path.stem, set()), used))
        else:
            leftovers.append(path)
    exports.sort(key=lambda export: export.last_used, reverse=True)
    return CacheContents(folder, tuple(exports), tuple(leftovers))


def find_unneeded(
    contents: CacheContents, *, days: float | None = None, everything: bool = False
) -> list[CachedExport]:
    """The exports that are orphaned; also those not used for `days`, or all of them."""
    now = time.time()
    return [
        export
        for export in contents.exports
        if everything or export.orphaned or (days is not None and now - export.last_used.timestamp() > days * 24 * 3600)
    ]


def remove(contents: CacheContents, exports: Iterable[CachedExport]) -> int:
    """Removes exports, what is noted of them, and all leftovers; gives the bytes that this freed.

    Waits for an export that is being made. Programs that have an export open keep it until they end, but for Windows,
    which does not let it go. Raises ExportError.
    """
    from filelock import FileLock

    cache = ExportCache(contents.folder)
    freed = 0
    try:
        with FileLock(contents.folder / "exports.lock"):
            for path in contents.leftovers:
                freed += measure(path)
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            for export in exports:
                freed += export.bytes
                export.path.unlink(missing_ok=True)
                for source in {*export.sources, str(cache.exports.resolve() / export.path.name)}:
                    cache.notes.forget(source)
            for note in list(cache.notes):  # also of files that carry their encoders, and are only known as checked
                if not _is_there(note.source):
                    cache.notes.forget(note.source)
    except OSError as error:
        raise ExportError(f"cannot remove from the cache {contents.folder}: {error}") from error
    return freed


def measure(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    size = 0
    for file in files:
        with contextlib.suppress(OSError):  # gone meanwhile
            size += file.stat().st_size
    return size


def _describe(path: Path, sources: set[str], used: float | None) -> CachedExport:
    about = path.stat()
    made_with = None
    with contextlib.suppress(CheckpointError):
        graphs = CheckpointFile(path).graphs
        made_with = None if graphs is None else graphs.made_with
    return CachedExport(
        path=path,
        bytes=about.st_size,
        last_used=datetime.fromtimestamp(about.st_mtime if used is None else used, UTC),
        sources=tuple(sorted(sources)),
        made_with=made_with,
        orphaned=not any(_is_there(source) for source in sources),
    )


def _is_there(source: str) -> bool:
    """Whether a model may still be asked for under this name. What is no path of a file or folder may always."""
    path = Path(source.removeprefix("hf:"))
    return path.exists() or not path.is_absolute()
