"""The files in a tar archive, read in one pass forward, with a check that the archive is whole.

Python's tarfile takes damage in the middle of an archive for its end. Here the end counts only where its mark of zeros
is; anything else is a DamagedArchive.
"""

from __future__ import annotations

import contextlib
import gzip
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

from clip_qdrant.errors import DamagedArchive, first_line

__all__ = ["Member", "TarStream", "sample_key"]

_BLOCK = 512  # bytes, of which an archive is made
_STEP = 1 << 20
_OF_THE_ARCHIVE = re.compile(r"__[^/]*__/")
_LARGEST_READ = 64 << 20  # bytes; no header is as large


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its bytes begin at `offset` of the archive, unpacked.

    `instead` says what is there instead of a file that can be read in one pass, as in "a hard link to 'a.jpg'".
    """

    name: str
    offset: int
    size: int
    instead: str | None = None


def sample_key(name: str) -> str | None:
    """The sample that a file in an archive belongs to, as WebDataset has it: its name up to the first dot.

    None for files that belong to none: hidden ones, those that speak of the archive (`__meta__/`), and those without
    a suffix.
    """
    folder, file_name = posixpath.split(name)
    if file_name.startswith((".", "__")) or "." not in file_name or _OF_THE_ARCHIVE.match(name):
        return None
    return posixpath.join(folder, file_name.partition(".")[0])


class TarStream:
    """The files of an archive, read from its beginning to its end; `read` gets the bytes of the one at hand.

    `seekable` archives are passed over by seeking. Whatever cannot be read is a DamagedArchive.
    """

    def __init__(self, file: IO[bytes], *, compressed: bool = False, seekable: bool = False) -> None:
        plain = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if compressed else file
        self._file = _Forward(plain, seekable=seekable and not compressed)

    def __iter__(self) -> Iterator[Member]:
        with _report_damage():
            tar = tarfile.open(fileobj=cast("IO[bytes]", self._file), mode="r:")  # noqa: SIM115  it is in a context
        with tar:
            for found in _headers(tar):
                if found.size < 0 or found.offset_data < found.offset:
                    raise DamagedArchive(f"the header of {found.name!r} makes no sense")
                if (instead := _instead(found)) is not None:
                    yield Member(found.name, found.offset_data, 0, instead)
                elif found.isreg():
                    yield Member(found.name, found.offset_data, found.size)
                    self._file.pass_to(found.offset_data + found.size, found.name)
            self._check_end(tar.offset)

    def read(self, member: Member) -> bytes:
        """The bytes of the file at hand. Raises DamagedArchive if the archive ends before it."""
        self._file.seek(member.offset)
        chunks, left = [], member.size
        while left > 0 and (chunk := self._file.read(min(left, _STEP))):
            chunks.append(chunk)
            left -= len(chunk)
        if left:
            raise _cut_off(member.name)
        return b"".join(chunks)

    def pass_over(self, member: Member) -> None:
        """Goes to the end of the file at hand. Raises DamagedArchive if that lies beyond the end of the archive."""
        self._file.pass_to(member.offset + member.size, member.name)

    def _check_end(self, offset: int) -> None:
        mark = self._file.block_at(offset)
        if not mark:
            raise DamagedArchive("it ends without the mark of its end, so it may be cut off")
        if mark.strip(b"\0"):
            raise DamagedArchive(f"the header at byte {offset} is damaged")


@contextlib.contextmanager
def _report_damage() -> Iterator[None]:
    """Around the parsing of headers: tarfile has not only errors of its own for odd ones."""
    try:
        yield
    except tarfile.TarError as error:
        raise DamagedArchive(first_line(error)) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise DamagedArchive(f"a header cannot be understood: {first_line(error)}") from error


def _headers(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The headers of an archive that was just opened, none of which is kept."""
    if tar.firstmember is None:  # type: ignore[attr-defined]  # of all versions
        return  # Python 3.10 would step back before the beginning of an archive without members
    while True:
        with _report_damage():
            found = tar.next()
        if found is None:
            return
        tar.members = []  # type: ignore[attr-defined]  # of all versions: the headers seen, all kept
        yield found


def _instead(found: tarfile.TarInfo) -> str | None:
    if found.islnk():
        return f"a hard link to {found.linkname[:200]!r}"
    if found.issym():
        return f"a symbolic link to {found.linkname[:200]!r}"
    return "a sparse file" if found.issparse() else None


def _cut_off(name: str) -> DamagedArchive:
    return DamagedArchive(f"unexpected end of data: it ends within {name!r}")


class _Forward:
    """A file that goes forward only, with the seeks that tarfile makes; it remembers the last block read."""

    def __init__(self, file: IO[bytes], *, seekable: bool) -> None:
        self._file, self._seeks = file, seekable
        self._at = 0
        self._last = (0, b"")

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> int:
        if offset < self._at:
            raise DamagedArchive(f"a header points back, from byte {self._at} to {offset}")
        if self._seeks:
            self._at = self._file.seek(offset)
        while self._at < offset and self.read(min(offset - self._at, _STEP)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise DamagedArchive(f"a header of {size} bytes makes no sense")
        chunks, wanted = [], size
        try:
            while wanted > 0 and (chunk := self._file.read(wanted)):
                chunks.append(chunk)
                wanted -= len(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedArchive(first_line(error)) from error
        data = b"".join(chunks)
        if size == _BLOCK:
            self._last = (self._at, data)
        self._at += len(data)
        return data

    def pass_to(self, end: int, name: str) -> None:
        """Goes forward to `end`, that of the file `name` in the archive."""
        if end <= self._at:
            return
        self.seek(end - 1)
        if not self.read(1):
            raise _cut_off(name)

    def block_at(self, offset: int) -> bytes:
        """The block at an offset that was read last, or is yet to be."""
        if self._last[0] == offset:
            return self._last[1]
        self.seek(offset)
        return self.read(_BLOCK)
