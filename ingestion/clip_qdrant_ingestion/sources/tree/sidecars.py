"""Captions and metadata that lie beside the images, in files called sidecars.

For many images: `metadata.jsonl`, `metadata.csv` or a `captions` file in any folder, a row an image. The column
`file_name` (or another that names a file, such as `image` or `path`) is the path of the image from that folder,
`caption` (or another of CAPTION_COLUMNS) its caption; an object in a column `metadata`, and all other columns, are its
metadata. For one image `cat.jpg`: `cat.json` or `cat.jpg.json`, with the same content or that of Google Takeout
(`takeout`), `cat.xmp` or `cat.jpg.xmp` from an editor of photos, and `cat.txt` or `cat.jpg.txt`, which is its caption.

What is nearer to the image wins, field by field: a table in its folder over one further up, `metadata.jsonl` over
`metadata.csv`, that over a `captions` file, `cat.xmp` over tables, `cat.json` over both, `cat.jpg.json` over
`cat.json`, a text file over all of them.

Names are compared in Unicode's composed form (NFC), and suffixes and the names of tables without regard to case: an
archive made on a Mac decomposes them, and Windows writes `CAT.TXT`.
"""

from __future__ import annotations

import io
import logging
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain

from clip_qdrant.errors import ClipQdrantError, MetadataError
from clip_qdrant.images.load import Limits
from clip_qdrant.images.metadata.xmp import read_xmp
from clip_qdrant.tables.rows import parse_object
from clip_qdrant.tables.suffixes import TableFormat
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.sources.descriptions import describe_fields, describe_text
from clip_qdrant_ingestion.sources.protocol import Description
from clip_qdrant_ingestion.sources.tree.folder_table import FolderTable, read_folder_table
from clip_qdrant_ingestion.sources.tree.takeout import (
    describe_takeout,
    find_tail,
    is_takeout,
    list_stems,
    name_original,
)

__all__ = ["FolderSidecars", "Sidecars"]

logger = logging.getLogger(__name__)

_TABLES: Mapping[str, TableFormat] = {  # the later wins; training reads them by the same names
    "captions.csv": "csv",
    "captions.tsv": "tsv",
    "captions.jsonl": "jsonl",
    "metadata.csv": "csv",
    "metadata.jsonl": "jsonl",
}

_SUFFIXES = ("xmp", "json", "txt")  # of the sidecars of one image; the later wins
_OF_ONE_IMAGE = Limits(max_bytes=1024 * 1024)  # a page of them is held at once

Read = Callable[[Sequence[str], Limits], Sequence[bytes | ClipQdrantError]]


class FolderSidecars:
    """The sidecars that lie in one folder, by name. The name of one that is for a single image takes 16 bytes."""

    def __init__(self) -> None:
        self.tables: dict[str, str] = {}  # from the usual name to the one it has here
        self._names = TextSet()
        # As they are written here, the usual way first.
        self._suffixes: dict[str, list[str]] = {suffix: [] for suffix in _SUFFIXES}
        self._tails: dict[str, None] = {}  # in names of Takeout
        self._mixed: dict[str, str] = {}  # names neither composed nor decomposed, by their composed form

    def add(self, name: str) -> None:
        """Takes note of a file. One that is no sidecar does no harm."""
        if (usual := name.lower()) in _TABLES:
            if usual not in self.tables or name == usual:  # of metadata.csv and Metadata.CSV the plain one
                self.tables[usual] = name
            return
        stem, _, suffix = name.rpartition(".")
        spellings = self._suffixes.get(suffix.lower())
        if spellings is None:
            return
        if suffix not in spellings:
            spellings.append(suffix)
            spellings.sort(key=lambda spelling: (spelling != spelling.lower(), spelling))
        self._names.add(name)
        if suffix.lower() == "json" and (tail := find_tail(stem)) is not None:
            self._tails[tail] = None
        if stem not in _forms(stem):
            self._mixed.setdefault(f"{_compose(stem)}.{suffix.lower()}", name)

    def beside(self, image: str) -> list[str]:
        """The sidecars of the image of this name, the nearest last."""
        if not self._names:
            return []
        stem = image.rpartition(".")[0]
        found: list[str] = []
        for suffix in _SUFFIXES:
            found += [name for plain in (stem, image) if plain and (name := self._find(plain, suffix)) is not None]
            if suffix == "json" and (name := self._find_takeout(image, has_own=bool(found))) is not None:
                found.append(name)
        return found

    def _find_takeout(self, image: str, *, has_own: bool) -> str | None:
        """The JSON file of Takeout, of the original if the image is an edited copy without a sidecar of its own."""
        if self._tails and (name := self._find_first(list_stems(image, self._tails))) is not None:
            return name
        original = None if has_own else name_original(image)
        if original is None:
            return None
        return self._find(original, "json") or self._find_first(list_stems(original, self._tails))

    def _find_first(self, stems: Iterable[str]) -> str | None:
        return next((name for stem in stems if (name := self._find(stem, "json")) is not None), None)

    def _find(self, name: str, suffix: str) -> str | None:
        forms = _forms(name)
        for spelling in self._suffixes[suffix]:
            for form in forms:
                if (sidecar := f"{form}.{spelling}") in self._names:
                    return sidecar
        return self._mixed.get(f"{forms[0]}.{suffix}") if self._mixed else None


class Sidecars:
    """Describes images while a tree is walked, folder after folder.

    `read` gives the contents of files, by their paths, or the error of one that cannot be read. `problem` is called
    with the path of a file and what is wrong with it. `whole` says that all folders are walked: only then is there a
    warning of rows that name no image.
    """

    def __init__(self, read: Read, problem: Callable[[str, str], None], *, whole: bool = True) -> None:
        self._read, self._problem, self._whole = read, problem, whole
        self._tables: dict[str, list[FolderTable]] = {}  # by folder: of the folder in hand and those above it
        self._unused: dict[str, set[str]] = {}
        self._prefix = ""  # of the folder in hand, "" or with a "/" at its end
        self._folder = FolderSidecars()

    def enter(self, prefix: str, folder: FolderSidecars) -> None:
        """Goes into a folder. Its parents must have been entered before it."""
        self._leave(prefix)
        self._prefix, self._folder = prefix, folder
        tables = []
        for usual, form in _TABLES.items():
            if usual not in folder.tables:
                continue
            name = prefix + folder.tables[usual]
            (content,) = self._read([name], Limits())
            if isinstance(content, ClipQdrantError):
                self._problem(name, str(content))
                tables.append(FolderTable(partial=True))
                continue
            table = read_folder_table(io.BytesIO(content), form)
            for problem in table.problems:
                self._problem(name, problem)
            if table.unnamed:
                logger.warning("%s: %d columns without a name are not used", name, table.unnamed)
            if table.further:
                logger.warning("%s: %d captions are not used: an image has one, the first", name, table.further)
            tables.append(table)
        if any(table.rows or table.partial for table in tables):
            self._tables[prefix] = tables
            self._unused[prefix] = {name for table in tables for name in table.rows}

    def describe(self, images: Sequence[str]) -> list[Description]:
        """What is said about images of the folder in hand, by their file names."""
        beside = [[self._prefix + name for name in self._folder.beside(image)] for image in images]
        names = list(dict.fromkeys(chain.from_iterable(beside)))
        contents = self._read(names, _OF_ONE_IMAGE)
        said = {name: self._said(name, content) for name, content in zip(names, contents, strict=True)}
        return [self._one(image, [said[name] for name in near]) for image, near in zip(images, beside, strict=True)]

    def close(self) -> None:
        """After the last folder: warns of rows that name no image."""
        self._leave(None)

    def _leave(self, prefix: str | None) -> None:
        for above in [above for above in self._tables if prefix is None or not prefix.startswith(above)]:
            unused = self._unused.pop(above)
            if unused and self._whole:
                logger.warning(
                    "%d rows of the metadata in folder %r name no image there, such as %r",
                    len(unused),
                    above.removesuffix("/") or ".",
                    min(unused),
                )
            del self._tables[above]

    def _one(self, image: str, near: Sequence[Description]) -> Description:
        description = Description()
        for above, tables in self._tables.items():  # from the top down: the nearest is last and wins
            key = _compose(self._prefix[len(above) :] + image)
            for table in tables:
                description = table.describe(key).over(description)
            self._unused[above].discard(key)
        for said in near:
            description = said.over(description)
        return description

    def _said(self, name: str, content: bytes | ClipQdrantError) -> Description:
        """What the sidecar of one image says."""
        if name.lower().endswith(".xmp") and isinstance(content, bytes):
            return _describe_xmp(content)
        text = self._text(name, content)
        if text is None:
            return Description(partial=True)
        if name.lower().endswith(".txt"):
            return describe_text(text)
        try:
            fields = parse_object(text)
            return describe_takeout(fields) if is_takeout(fields) else describe_fields(fields)
        except MetadataError as error:
            self._problem(name, str(error))
            return Description(partial=True)

    def _text(self, name: str, content: bytes | ClipQdrantError) -> str | None:
        if isinstance(content, ClipQdrantError):
            self._problem(name, str(content))
            return None
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            self._problem(name, f"line {line}: not UTF-8 text; save the file as UTF-8")
            return None


def _describe_xmp(content: bytes) -> Description:
    said = read_xmp(content)
    taken_at = {"taken_at": said.taken_at.isoformat()} if said.taken_at else {}
    location = {"location": asdict(said.location)} if said.location else {}
    return Description(None, {**said.fields, **taken_at, **location})


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _forms(name: str) -> tuple[str, ...]:
    """A name composed and decomposed."""
    return (name,) if name.isascii() else (_compose(name), unicodedata.normalize("NFD", name))
