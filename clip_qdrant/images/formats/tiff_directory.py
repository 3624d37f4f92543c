"""The directories of a TIFF: read with all their tags, and written anew with some. Source: TIFF 6.0; BigTIFF 2007."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from clip_qdrant.errors import TruncatedImage

__all__ = [
    "LONG",
    "SHORT",
    "Directory",
    "Field",
    "FileHeader",
    "make_field",
    "read_directories",
    "read_directory",
    "read_header",
    "write_directory",
]

SHORT, LONG = 3, 4
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}
_MOST_DIRECTORIES = 500
_SUB_DIRECTORIES = 330


@dataclass(frozen=True, slots=True)
class FileHeader:
    """How the numbers of a file are written, and where its first directory is."""

    order: str  # of `struct`
    big: bool  # BigTIFF, with offsets of 64 bits
    first: int


@dataclass(frozen=True, slots=True)
class Field:
    """A tag's type, count, and value in bytes, in the order of its file."""

    kind: int
    count: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one page; `order` is that of their values, `cut` has those that lie behind the end of the file."""

    order: str
    fields: Mapping[int, Field]
    cut: frozenset[int] = frozenset()
    is_whole: bool = True  # its entries are all there

    def integers(self, tag: int) -> tuple[int, ...]:
        """The values of a tag, () if it is missing or no whole numbers."""
        field = self.fields.get(tag)
        if field is None or field.kind not in _INTEGERS:
            return ()
        return struct.unpack(f"{self.order}{field.count}{_INTEGERS[field.kind]}", field.raw)

    def integer(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return next(iter(self.integers(tag)), default)


def make_field(order: str, kind: int, *numbers: int) -> Field:
    """A field of whole numbers."""
    return Field(kind, len(numbers), struct.pack(f"{order}{len(numbers)}{_INTEGERS[kind]}", *numbers))


def read_header(data: bytes) -> FileHeader:
    """Raises TruncatedImage."""
    order = "<" if data.startswith(b"II") else ">"
    try:
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        (first,) = struct.unpack_from(order + ("Q" if big else "L"), data, 8 if big else 4)
    except struct.error as error:
        raise TruncatedImage("the TIFF ends in its header") from error
    return FileHeader(order, big, first)


def read_directories(data: bytes, header: FileHeader) -> Iterator[Directory]:
    """The pages of a file, each followed by what hangs from it, up to the first that is damaged."""
    seen: set[int] = set()
    waiting = [header.first]
    while waiting and len(seen) < _MOST_DIRECTORIES:
        at = waiting.pop()
        if at in seen or not at:
            continue
        seen.add(at)
        directory, following = read_directory(data, header, at)
        if directory.fields:
            yield directory
        waiting += [following, *reversed(directory.integers(_SUB_DIRECTORIES))]


def read_directory(data: bytes, header: FileHeader, at: int) -> tuple[Directory, int]:
    """The tags of the directory at an offset, as far as they lie in the file, and the offset of the next one."""
    order = header.order
    count_type, entry, short, value_at = ("Q", "HHQ", 8, 12) if header.big else ("H", "HHL", 4, 8)
    fields: dict[int, Field] = {}
    cut: set[int] = set()
    is_whole = False
    following = 0
    with contextlib.suppress(struct.error):
        (count,) = struct.unpack_from(order + count_type, data, at)
        at += struct.calcsize(order + count_type)
        for _ in range(count):
            tag, kind, number = struct.unpack_from(order + entry, data, at)
            size = number * _SIZES.get(kind, 0)
            start = at + value_at
            if size > short:
                (start,) = struct.unpack_from(order + ("Q" if header.big else "L"), data, start)
            if start + size > len(data):
                cut.add(tag)
            elif size and tag not in fields:
                fields[tag] = Field(kind, number, data[start : start + size])
            at += value_at + short
        is_whole = True
        (following,) = struct.unpack_from(order + ("Q" if header.big else "L"), data, at)
    return Directory(order, fields, frozenset(cut), is_whole), following


def write_directory(order: str, fields: Mapping[int, Field], at: int) -> bytes:
    """A directory of TIFF 6.0 to stand at offset `at`, the last of its file, with its values behind it."""
    values = b""
    start = at + 2 + 12 * len(fields) + 4
    entries = struct.pack(order + "H", len(fields))
    for tag, field in sorted(fields.items()):
        entries += struct.pack(order + "HHL", tag, field.kind, field.count)
        if len(field.raw) <= 4:
            entries += field.raw.ljust(4, b"\0")
        else:
            entries += struct.pack(order + "L", start + len(values))
            values += field.raw + b"\0" * (len(field.raw) % 2)
    return entries + bytes(4) + values
