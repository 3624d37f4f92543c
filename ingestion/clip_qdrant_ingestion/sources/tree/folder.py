"""Folders of the local file system as a source."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from clip_qdrant.errors import SourceError
from clip_qdrant.images.load import Limits, read_bytes
from clip_qdrant.uris import to_uri
from clip_qdrant_ingestion.packed_texts import PackedTexts, sort_texts
from clip_qdrant_ingestion.sources.protocol import SourceObject
from clip_qdrant_ingestion.sources.tree.selection import Selection
from clip_qdrant_ingestion.sources.tree.walk import Entry, TreeSource

__all__ = ["FolderSource"]

_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # a dead link, or a file that went since it was listed
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.~/-]+")


class FolderSource(TreeSource):
    """The images below a local folder; which ones, `include`, `exclude` and `hidden` say as in `Selection`.

    Symbolic links are followed, out of the folder too, and what they lead to has the name of the link; a folder that
    was listed already, by whatever path, is not listed again. Without `follow_symlinks` links are passed over. A link
    that leads nowhere is no image.
    Raises ConfigError for a pattern that cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        hidden: bool = False,
        follow_symlinks: bool = True,
        name: str | None = None,
    ) -> None:
        # Not resolve: a link keeps the name it was given. But photos and ../photos must be the same uris.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100  Path.absolute leaves ".." in
        selection = Selection(include, exclude, hidden=hidden)
        super().__init__(_LocalFolders(self.path, follows=follow_symlinks), selection, name=name or to_uri(self.path))

    def __repr__(self) -> str:
        return f"FolderSource({str(self.path)!r})"


class _LocalFolders:
    """Lists local folders; a file's size and time are asked for when it is its turn."""

    reads_at_once = 4

    def __init__(self, root: Path, *, follows: bool) -> None:
        self._root, self._follows = root, follows
        uri = to_uri(root)
        self._uri = uri if uri.endswith("/") else f"{uri}/"

    def identity(self, prefix: str) -> int:
        path = self._path(prefix)
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise _cannot_list(path, error) from error
        return status.st_dev << 64 | status.st_ino

    def entries(self, prefix: str) -> Iterator[Entry]:
        path = self._path(prefix)
        folders, links = PackedTexts(), PackedTexts()
        try:
            with os.scandir(path) as found:
                files = sort_texts(_files(found, folders, None if self._follows else links))
        except (OSError, ValueError) as error:
            raise _cannot_list(path, error) from error
        for name in files:
            yield Entry(name)
        for name in links:
            yield Entry(name, is_link=True)
        for name in sort_texts(folders):
            yield Entry(name, is_folder=True)

    def object(self, prefix: str, entry: Entry) -> SourceObject | None:
        name = prefix + entry.name
        uri = self.uri(name)
        try:
            status = os.stat(f"{self._root}/{name}")  # noqa: PTH116  a Path for each file takes 4 times as long
        except OSError as error:
            if error.errno in _NOWHERE:
                return None
            return SourceObject(uri, name)  # it is there, and reading it tells what is wrong
        return SourceObject(uri, name, size=status.st_size, mtime=status.st_mtime)

    def uri(self, name: str) -> str:
        # Most names need no escaping; asking pathlib for each of a million files takes a minute.
        return self._uri + name if _PLAIN_NAME.fullmatch(name) else to_uri(self._root / name)

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        return read_bytes(item.uri, limits=limits)

    def _path(self, prefix: str) -> Path:
        parts = prefix.split("/")[:-1]
        if not {"", ".", ".."}.isdisjoint(parts):  # a name for what has another name, or is not below the root
            raise FileNotFoundError(f"cannot list {prefix!r} below {self._root}: not the name of a folder there")
        return self._root.joinpath(*parts)


def _files(found: Iterator[os.DirEntry[str]], folders: PackedTexts, links: PackedTexts | None) -> Iterator[str]:
    """The names of the files; those of folders are put into `folders`, those of links into `links`, if there is one."""
    for entry in found:
        if links is not None and entry.is_symlink():
            links.append(entry.name)
            continue
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself
            is_folder = False
        if is_folder:
            folders.append(entry.name)
        else:
            yield entry.name


def _cannot_list(path: Path, error: OSError | ValueError) -> FileNotFoundError | SourceError:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"cannot list {path}: not found")
    if isinstance(error, NotADirectoryError):
        return FileNotFoundError(f"cannot list {path}: it is not a folder")
    return SourceError(f"cannot list {path}: {getattr(error, 'strerror', None) or error}")
