"""Where images come from: the `Source` protocol, and folders of the local file system.

A source lists itself folder by folder, in an order that is the same every time, and reads one object at a time.
A bucket fits the same shape: its folders are what a listing with delimiter "/" gives, its objects carry etags.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from clip_qdrant.errors import ConfigError, SourceError
from clip_qdrant.images import Limits, read_bytes
from clip_qdrant.records import to_uri

__all__ = ["IMAGE_SUFFIXES", "Folder", "FolderSource", "Source", "SourceObject"]

IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff",
        ".avif", ".heic", ".heif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm",
    }
)  # fmt: skip
_SIDECAR_SUFFIXES = frozenset({".json", ".txt", ".jsonl", ".csv"})


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One object as a listing shows it. `name` is its path within the source, with "/" between the parts.

    `size` in bytes, `mtime` in seconds since 1970 and `etag` tell whether it changed; None where the source cannot say.
    """

    uri: str
    name: str
    size: int | None = None
    mtime: float | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of a source: `name` ("" is the root), its images in order, and the files that may describe them.

    `sidecars` maps file names to objects. `error` says why a folder could not be listed.
    """

    name: str
    images: Sequence[SourceObject] = ()
    sidecars: dict[str, SourceObject] = field(default_factory=dict)
    error: SourceError | None = None


class Source(Protocol):
    """What the pipeline needs of a source. `read` is called from several threads at once."""

    @property
    def name(self) -> str:
        """Stored with every image as `source.name`."""

    def folders(self) -> Iterator[Folder]:
        """All folders, a parent before its children, in the same order every time.

        Raises SourceError if there is nothing to list; a folder within that cannot be listed comes with its `error`.
        """

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        """The content of an object. Raises SourceError, or ImageTooLarge above the limit of bytes."""


class FolderSource:
    """The images below a local folder.

    A file is an image if its suffix says so (IMAGE_SUFFIXES). `include` and `exclude` are glob patterns, upper and
    lower case alike: one without "/" is held against the file's name, one with "/" against the path below the
    folder, where "**" stands for any number of folders. With `include` only what matches one of its patterns is taken;
    a pattern that ends in a suffix ("*.dat") takes files of that suffix as images too, any other one files that have
    no suffix; sidecars are never images. An excluded folder is not entered. Hidden files and folders (".name") are left
    out unless `hidden` is set.

    Symbolic links are followed; a folder that was seen already, by whatever way, is not entered again.
    Raises ConfigError for a pattern that there cannot be.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        hidden: bool = False,
        name: str | None = None,
    ) -> None:
        # Not resolve: a link keeps the name it was given. But photos and ../photos must be the same uris.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100  Path.absolute leaves ".." in
        self.name = name or to_uri(self.path)
        self._include = [_Glob(pattern) for pattern in include]
        self._exclude = [_Glob(pattern) for pattern in exclude]
        self._hidden = hidden

    def __repr__(self) -> str:
        return f"FolderSource({str(self.path)!r})"

    def folders(self) -> Iterator[Folder]:
        if not self.path.is_dir():
            raise SourceError(f"cannot list {self.path}: {'it is not a folder' if self.path.exists() else 'not found'}")
        seen: set[tuple[int, int]] = set()
        stack = [(self.path, "")]
        while stack:
            path, name = stack.pop()
            try:
                status = path.stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                folder, below = self._list(path, name)
            except OSError as error:
                reason = SourceError(f"cannot list {path}: {error.strerror or error}")
                if not name:
                    raise reason from error
                yield Folder(name, error=reason)
                continue
            stack.extend(reversed(below))
            yield folder

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        return read_bytes(item.uri, limits=limits)

    def _list(self, path: Path, name: str) -> tuple[Folder, list[tuple[Path, str]]]:
        images: list[SourceObject] = []
        sidecars: dict[str, SourceObject] = {}
        below: list[tuple[Path, str]] = []
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        uri = to_uri(path)
        prefix = uri if uri.endswith("/") else f"{uri}/"
        for entry in found:
            if entry.name.startswith(".") and not self._hidden:
                continue
            inner = f"{name}/{entry.name}" if name else entry.name
            if any(glob.matches(inner, entry.name) for glob in self._exclude):
                continue
            if _is_folder(entry):
                below.append((Path(entry.path), inner))
                continue
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  a Path for each file takes 4 times as long
            if self._is_image(inner, entry.name, suffix):
                images.append(_object(entry, inner, prefix))
            if suffix in _SIDECAR_SUFFIXES:
                sidecars[entry.name] = _object(entry, inner, prefix)
        return Folder(name, images, sidecars), below

    def _is_image(self, name: str, file_name: str, suffix: str) -> bool:
        if suffix in _SIDECAR_SUFFIXES:
            return False
        usual = suffix in IMAGE_SUFFIXES
        if not self._include:
            return usual
        return any(
            (usual or glob.names_suffix or not suffix) and glob.matches(name, file_name) for glob in self._include
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.~-]+")


def _object(entry: os.DirEntry[str], name: str, prefix: str) -> SourceObject:
    # Most names need no escaping; asking pathlib for each of a million files takes a minute.
    uri = f"{prefix}{entry.name}" if _PLAIN_NAME.fullmatch(entry.name) else to_uri(Path(entry.path))
    try:
        status = entry.stat()
    except OSError:  # a dangling link, say: it is listed, and reading it tells what is wrong
        return SourceObject(uri, name)
    return SourceObject(uri, name, size=status.st_size, mtime=status.st_mtime)


class _Glob:
    """One pattern: `*` and `?` stop at "/", `**` does not, `[...]` is a set of characters."""

    _TOKENS = re.compile(r"\*\*/?|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)

    def __init__(self, pattern: str) -> None:
        path = pattern.strip("/") if "/" in pattern.strip("/") else pattern.rstrip("/")
        path = path.removeprefix("/")
        self._whole_path = "/" in path
        self.names_suffix = re.search(r"\.[^./*?\[\]]+\Z", path) is not None
        parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        regex = ""
        for token in self._TOKENS.findall(path):
            if token in parts:
                regex += parts[token]
            else:
                regex += _character_set(token[1:-1]) if len(token) > 1 else re.escape(token)
        try:
            self._regex = re.compile(regex, re.IGNORECASE | re.DOTALL)
        except re.error as error:
            raise ConfigError(f"the pattern {pattern!r} cannot be used: {error.msg}") from error

    def matches(self, name: str, file_name: str) -> bool:
        return self._regex.fullmatch(name if self._whole_path else file_name) is not None


def _character_set(body: str) -> str:
    """The regular expression for what stands between the brackets of a glob: characters, ranges, "!" in front."""
    characters = body.removeprefix("!")
    regex, at = "", 0
    while at < len(characters):
        span = 3 if characters[at + 1 : at + 2] == "-" and at + 2 < len(characters) else 1
        regex += "-".join(re.escape(one) for one in characters[at : at + span : 2])
        at += span
    return f"[^/{regex}]" if body.startswith("!") else f"(?!/)[{regex}]"
