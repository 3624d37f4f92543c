"""The walk through anything that has folders: which images there are, and what lies beside them.

`TreeSource` is the same for a local folder and for a bucket, which differ in their `Lister`. The walk goes depth first,
in the same order every time. Sidecars may be listed after the images that they describe, so a folder is listed to its
end before its images are given; the images of a large folder wait in a temporary file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import Protocol

from clip_qdrant.errors import ClipQdrantError, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.web.retries import retry_request
from clip_qdrant_ingestion.packed_texts import PackedTexts
from clip_qdrant_ingestion.sources.protocol import OBJECTS_A_PAGE, Page, Problem, SourceObject
from clip_qdrant_ingestion.sources.tree.selection import Selection
from clip_qdrant_ingestion.sources.tree.sidecars import FolderSidecars, Sidecars
from clip_qdrant_ingestion.sources.tree.spool import Spool

__all__ = ["Entry", "Lister", "TreeSource"]


_DEEPEST = 512  # folders below one another, as in the longest key of S3; links may go round and round


@dataclass(frozen=True, slots=True)
class Entry:
    """One file or folder as its folder's listing shows it; `name` has no "/". The rest as in SourceObject."""

    name: str
    is_folder: bool = False
    size: int | None = None
    mtime: float | None = None
    etag: str | None = None
    is_link: bool = False  # which is not followed


class Lister(Protocol):
    """What differs between trees. A folder is named by its prefix: "" is the root, any other ends in "/"."""

    @property
    def reads_at_once(self) -> int:
        """How many reads at once hide the time that one of them waits."""

    def identity(self, prefix: str) -> int | None:
        """A number that a folder has by whatever path it is reached; None where there is one path only.

        Raises as `entries`.
        """

    def entries(self, prefix: str) -> Iterator[Entry]:
        """The files of a folder, and the folders directly in it, each in the same order every time.

        Raises FileNotFoundError, with a sentence for the user, if there is no such folder, and SourceError.
        """

    def object(self, prefix: str, entry: Entry) -> SourceObject | None:
        """A file as the listing gives it to the user of the source; None if it is not there, as behind a dead link."""

    def uri(self, name: str) -> str:
        """The uri of a file or folder, by its path within the source."""

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        """The content of a file. Raises SourceError, or ImageTooLarge above the limit of bytes."""


class TreeSource:
    """The images of a tree, described by the sidecars that lie beside them.

    Transient failures of listings and sidecars are tried again for `patience` seconds each.
    """

    def __init__(self, lister: Lister, selection: Selection, *, name: str, patience: float = 0.0) -> None:
        self.name = name
        self._lister, self._selection, self._patience = lister, selection, patience

    @property
    def reads_at_once(self) -> int:
        return self._lister.reads_at_once

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        """As `Source.pages`. A sidecar that cannot be used is a Problem, and so is a folder that cannot be listed.

        A folder of `folders` that is not there, or that is left out, has no objects. Raises SourceError if the root
        cannot be listed, or if a transient failure outlasts the patience.
        """
        return _Walk(self._lister, self._selection, folders, self._patience).pages()

    def look(self, item: SourceObject) -> SourceObject:
        return item

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        return self._lister.read(item, limits=limits)


class _Walk:
    """One listing from beginning to end."""

    def __init__(self, lister: Lister, selection: Selection, folders: Collection[str] | None, patience: float) -> None:
        self._lister, self._selection, self._patience = lister, selection, patience
        self._wanted = None if folders is None else {f"{name}/" if name else "" for name in folders}
        self._in_order = sorted(self._wanted or ())
        self._sidecars = Sidecars(self._read_all, self._broken_sidecar, whole=folders is None)
        self._objects: list[SourceObject] = []
        self._problems: list[Problem] = []
        self._passed_over: Counter[str] = Counter()
        self._seen: set[int] = set()

    def pages(self) -> Iterator[Page]:
        below: list[Iterator[str]] = [iter([""])]
        while below:
            prefix = next(below[-1], None)
            if prefix is None:
                below.pop()
                continue
            children = yield from self._folder(prefix)
            below.append(_prefixes(prefix, children))
            if len(self._problems) >= OBJECTS_A_PAGE:
                yield self._page()
        self._sidecars.close()
        if self._objects or self._problems or self._passed_over:
            yield self._page()

    def _folder(self, prefix: str) -> Generator[Page, None, Iterable[str]]:
        """The pages that get full in one folder; gives the names of the folders in it."""
        children: Iterable[str] = ()
        try:
            if not self._is_new(prefix):
                return children
            children, images = self._survey(prefix)
            while chunk := list(islice(images, OBJECTS_A_PAGE - len(self._objects))):
                self._add(prefix, chunk)
                if len(self._objects) == OBJECTS_A_PAGE:
                    yield self._page()
        except FileNotFoundError as error:
            if not prefix:
                raise SourceError(str(error)) from error
            if self._wanted is None:  # it was there when its parent was listed
                self._cannot_list(prefix, str(error))
        except SourceError as error:
            if not prefix or error.transient:
                raise
            self._cannot_list(prefix, str(error))
        return children

    def _is_new(self, prefix: str) -> bool:
        identity = self._lister.identity(prefix)
        if identity is None:
            if prefix.count("/") > _DEEPEST:
                raise SourceError(f"its folders go deeper than {_DEEPEST} levels")
            return True
        if identity in self._seen:
            return False
        self._seen.add(identity)
        return True

    def _survey(self, prefix: str) -> tuple[Iterable[str], Iterator[Entry]]:
        """The folders in a folder, and its images, once what describes them is known."""
        direct = self._wanted is None or prefix in self._wanted
        children, sidecars = PackedTexts(), FolderSidecars()
        images = Spool()
        for entry in self._lister.entries(prefix):
            if not self._selection.admits(prefix, entry.name):
                continue
            if entry.is_link:
                self._passed_over["link"] += 1
            elif entry.is_folder:
                children.append(entry.name)
            elif self._selection.is_sidecar(entry.name):
                sidecars.add(entry.name)
            elif direct and self._selection.is_image(prefix, entry.name):
                images.append((entry.name, entry.size, entry.mtime, entry.etag))
            elif direct and (kind := self._selection.kind_of_other(entry.name)) is not None:
                self._passed_over[kind] += 1
        self._sidecars.enter(prefix, sidecars)
        found = (Entry(name, False, *version) for name, *version in images)
        if self._wanted is None:
            return children, found
        towards = _folders_towards(self._in_order, prefix)
        return sorted(name for name in towards if self._selection.admits(prefix, name)), found

    def _add(self, prefix: str, images: Sequence[Entry]) -> None:
        said = self._sidecars.describe([image.name for image in images])
        for image, description in zip(images, said, strict=True):
            item = self._lister.object(prefix, image)
            if item is None:
                self._passed_over["dead link"] += 1
            else:
                self._objects.append(replace(item, said=description))

    def _page(self) -> Page:
        page = Page(tuple(self._objects), tuple(self._problems), passed_over=self._passed_over)
        self._objects, self._problems, self._passed_over = [], [], Counter()
        return page

    def _cannot_list(self, prefix: str, detail: str) -> None:
        uri = self._lister.uri(prefix.removesuffix("/"))
        self._problems.append(Problem(uri, "unreadable", detail, hides_objects=True))

    def _broken_sidecar(self, name: str, detail: str) -> None:
        self._problems.append(Problem(self._lister.uri(name), "bad metadata", f"{name}: {detail}"))

    def _read_all(self, names: Sequence[str], limits: Limits) -> list[bytes | ClipQdrantError]:
        """The contents of sidecars, or what kept one from being read."""
        if len(names) < 2 or self._lister.reads_at_once < 2:
            return [self._read(name, limits) for name in names]
        with ThreadPoolExecutor(min(self._lister.reads_at_once, len(names)), "sidecars") as pool:
            return list(pool.map(self._read, names, repeat(limits)))

    def _read(self, name: str, limits: Limits) -> bytes | ClipQdrantError:
        item = SourceObject(self._lister.uri(name), name)
        try:
            return retry_request(lambda: self._lister.read(item, limits=limits), patience=self._patience)
        except ClipQdrantError as error:
            return error


def _prefixes(prefix: str, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield f"{prefix}{name}/"


def _folders_towards(wanted: Sequence[str], prefix: str) -> Iterator[str]:
    """The names of the folders directly in one that lead to a wanted one. `wanted` are prefixes in order."""
    at = bisect_left(wanted, prefix)
    while at < len(wanted) and wanted[at].startswith(prefix):
        name = wanted[at][len(prefix) :].partition("/")[0]
        if name:
            yield name
        # To the first that is not below that one: "0" is the character after "/".
        at = bisect_left(wanted, f"{prefix}{name}0", at + 1) if name else at + 1
