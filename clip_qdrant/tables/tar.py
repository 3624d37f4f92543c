"""The files in a tar archive, read in one pass forward, with a check that the archive is whole.

The end of an archive is two blocks of zeros and, behind them, nothing but the padding of its last record.
Everything else is damage: zeros behind which it goes on, more zeros than padding, a header that cannot be. Most readers
take much of that for the end. Here the files behind the damage are found, and after them comes a DamagedArchive.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from clip_qdrant.errors import DamagedArchive, first_line
from clip_qdrant.tables.compression import open_unpacked
from clip_qdrant.tables.tar_headers import (
    BLOCK,
    EXTENSIONS,
    Header,
    extend_header,
    find_header,
    parse_header,
    parse_pax,
)

__all__ = ["Member", "TarStream", "sample_key"]

_STEP = 1 << 20
_MARK = 2 * BLOCK  # of the end
_RECORD = 10240  # bytes, of which tar writes an archive (20 blocks)
_OTHER_RECORDS = tuple(BLOCK << power for power in range(5, 12))  # 16 KiB to 1 MiB: what people choose
_MOST_ZEROS = 1 << 30  # bytes in which a file behind a hole is looked for
_OF_THE_ARCHIVE = re.compile(r"__[^/]*__/")
_LARGEST_EXTENSION = 1 << 20  # bytes of a long name, or of PAX records
_MOST_EXTENSIONS = 16  # that speak of one file
_MOST_SPARSE_BLOCKS = 1 << 16
_LONGEST_NAME = 100  # bytes; a longer one stands in a header of its own, which may be lost
_NEVER_END_IN_ZEROS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".json", ".txt", ".cls")


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
    """The files of an archive, read once from its beginning to its end; `read` gets the bytes of the one at hand.

    `file` can seek, and stands for the whole archive; its first bytes tell its `compression`. A `seekable` archive that
    is not compressed is passed over by seeking. What cannot be read is a DamagedArchive, after all files that can.
    Raises MissingExtra for a compression that needs a library.
    """

    def __init__(self, file: IO[bytes], *, seekable: bool = False) -> None:
        plain, self.compression = open_unpacked(file)
        self._file = _Forward(plain, seekable=seekable and self.compression is None)
        self._shared: dict[bytes, bytes] = {}  # PAX records that hold for all that follow
        self._damage: DamagedArchive | None = None
        self._skips = self._found_again = False
        self._zeros_after = ""  # the name of the last file, if it ends in zeros

    def __iter__(self) -> Iterator[Member]:
        offset = 0
        while True:
            try:
                found = self._next(offset)
            except _BadHeader as error:
                self._damage = self._damage or DamagedArchive(str(error))
                self._skips = self._skips or error.hides_a_name
                found_again = self._find_header(error.resume)
                if found_again is None:
                    raise self._damage from error
                offset, self._found_again = found_again, True
                continue
            except DamagedArchive as error:
                raise self._damage or error from error
            if found is None:
                break
            header, start = found
            offset = start + header.content
            member = Member(header.name, start, 0 if header.sparse else header.size, _instead(header))
            if not self._is_unnamed(header) and (header.is_file or member.instead):
                yield member
            self._pass_over(header, start)
        if self._damage is not None:
            raise self._damage

    def read(self, member: Member) -> bytes:
        """The bytes of the file at hand. Raises DamagedArchive if the archive ends before it."""
        self._file.seek(member.offset)
        data = self._file.read(member.size)
        if len(data) < member.size:
            raise _cut_off(member.name)
        return data

    def pass_over(self, member: Member) -> None:
        """Goes to the end of the file at hand. Raises DamagedArchive if that lies beyond the end of the archive."""
        self._file.pass_to(member.offset + member.size, member.name)

    def _next(self, offset: int) -> tuple[Header, int] | None:
        """The next header, with what those before it say of it, and where its content begins; None at the end."""
        long: dict[bytes, bytes] = {}
        records: dict[bytes, bytes] = {}
        for _ in range(_MOST_EXTENSIONS):
            block = self._file.read_at(offset, BLOCK)
            if len(block) == BLOCK and not block.strip(b"\0"):
                if long or records:
                    raise _BadHeader("headers that speak of a file, but there is none", offset, offset)
                self._check_end(offset)
                return None
            header = self._parse(block, offset)
            start = offset + BLOCK
            if header.kind not in EXTENSIONS:
                with _report_at(offset, start):
                    header = extend_header(header, long, {**self._shared, **records})
                return header, self._pass_sparse(header, start)
            if header.size > _LARGEST_EXTENSION:
                raise _BadHeader(f"it speaks of a file in {header.size} bytes", offset, start, hides_a_name=True)
            data = self._file.read_at(start, header.size)
            if len(data) < header.size:
                raise _cut_off("a header")
            offset = start + header.content
            if header.kind in b"LK":
                long[header.kind] = data
                continue
            with _report_at(start - BLOCK, offset, hides_a_name=True):
                (self._shared if header.kind == b"g" else records).update(parse_pax(data))
        raise _BadHeader("too many headers speak of one file", offset, offset, hides_a_name=True)

    def _parse(self, block: bytes, offset: int) -> Header:
        if not block:
            raise DamagedArchive("it ends without the mark of its end, so it may be cut off")
        if len(block) < BLOCK:
            raise _cut_off("a header")
        try:
            return parse_header(block)
        except DamagedArchive as error:
            detail = f"it is no tar archive, or damaged from its beginning on: {error}" if not offset else str(error)
            hides_a_name = block[156:157] in EXTENSIONS
            raise _BadHeader(detail, offset, offset + BLOCK, hides_a_name=hides_a_name, is_told=not offset) from error

    def _pass_sparse(self, header: Header, start: int) -> int:
        """Where the content begins: behind the further blocks of an old header of a sparse file."""
        goes_on = header.goes_on
        for _ in range(_MOST_SPARSE_BLOCKS):
            if not goes_on:
                return start
            block = self._file.read_at(start, BLOCK)
            if len(block) < BLOCK:
                raise _cut_off(header.name)
            goes_on, start = block[504] != 0, start + BLOCK
        raise _BadHeader("the map of a sparse file has no end", start, start)

    def _pass_over(self, header: Header, start: int) -> None:
        """Goes to the end of a file, and keeps in mind whether it ends in zeros."""
        if header.kind in b"123456":
            return
        end = start + header.size
        try:
            self._file.pass_to(end, header.name)
        except DamagedArchive as error:
            raise self._damage or error from error
        last = self._file.recent[-min(header.size, BLOCK) :] if header.size else b"\1"
        self._zeros_after = "" if last.strip(b"\0") else header.name

    def _is_unnamed(self, header: Header) -> bool:
        """Whether what says the name of a file may be lost, being in the damage before it."""
        found_again, self._found_again = self._found_again, False
        skips, self._skips = self._skips, False
        return skips or (found_again and ("?" in header.name or len(os.fsencode(header.name)) >= _LONGEST_NAME))

    def _check_end(self, offset: int) -> None:
        """Raises for zeros that are not the end of an archive, from `offset` on."""
        end, ends = self._file.pass_zeros(offset)
        if not ends:
            detail = f"its end is at byte {offset}, but at byte {end} it goes on: a hole of zeros, or several archives"
            raise _BadHeader(detail, offset, end - end % BLOCK, is_told=True)
        if end - offset < _MARK:
            raise DamagedArchive("it ends without the mark of its end, so it may be cut off")
        padded = {-(-(offset + _MARK) // size) * size for size in _OTHER_RECORDS}
        if end > -(-(offset + _MARK) // _RECORD) * _RECORD and (end not in padded or self._zeros_after):
            raise DamagedArchive(
                f"its last {end - offset} bytes are zeros, which is more than the padding of an archive"
            )
        if self._zeros_after.lower().endswith(_NEVER_END_IN_ZEROS):
            raise DamagedArchive(f"from within {self._zeros_after!r} on it is all zeros")

    def _find_header(self, start: int) -> int | None:
        """Where the next header lies behind damage; None if there is none."""
        data = b""
        while True:
            more = self._file.read_at(start + len(data), _STEP)
            data += more
            if (found := find_header(data)) >= 0:
                self._file.give_back(data[found:], start + found)
                return start + found
            if not more:
                return None
            kept = len(data) % BLOCK  # a header may begin there
            start, data = start + len(data) - kept, data[len(data) - kept :]


class _BadHeader(Exception):
    """A header that cannot be used, and where others may lie behind it."""

    def __init__(
        self, detail: str, offset: int, resume: int, *, hides_a_name: bool = False, is_told: bool = False
    ) -> None:
        super().__init__(detail if is_told else f"the header at byte {offset} is damaged: {detail}")
        self.resume, self.hides_a_name = resume, hides_a_name


@contextlib.contextmanager
def _report_at(offset: int, resume: int, *, hides_a_name: bool = False) -> Iterator[None]:
    try:
        yield
    except DamagedArchive as error:
        raise _BadHeader(str(error), offset, resume, hides_a_name=hides_a_name) from error


def _instead(header: Header) -> str | None:
    if header.kind == b"1":
        return f"a hard link to {header.link[:200]!r}"
    if header.kind == b"2":
        return f"a symbolic link to {header.link[:200]!r}"
    return "a sparse file" if header.sparse else None


def _cut_off(name: str) -> DamagedArchive:
    return DamagedArchive(f"unexpected end of data: it ends within {name!r}")


class _Forward:
    """A file that goes forward only; `recent` are the last bytes before where it is, a block at most."""

    def __init__(self, file: IO[bytes], *, seekable: bool) -> None:
        self._file, self._seeks = file, seekable
        self._at = 0
        self._given_back = b""
        # What comes before damage is read: `read` would lose it, waiting for all that it was asked for.
        self._read_some = getattr(file, "read1", file.read)
        self._end = file.seek(0, os.SEEK_END) if seekable else None
        if seekable:
            file.seek(0)
        self.recent = b""

    def seek(self, offset: int) -> None:
        """Goes forward to `offset`, or to the end of the file."""
        assert offset >= self._at, f"a tar stream goes forward, not from byte {self._at} to {offset}"
        if self._end is not None and offset > self._at + len(self._given_back):
            self._at, self._given_back, self.recent = min(offset, self._end), b"", b""
            self._file.seek(self._at)
        while self._at < offset and self.read(min(offset - self._at, _STEP)):
            pass

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end."""
        chunks = [self._given_back[:size]]
        self._given_back = self._given_back[size:]
        left = size - len(chunks[0])
        try:
            while left > 0 and (chunk := self._read_some(min(left, _STEP))):
                chunks.append(chunk)
                left -= len(chunk)
        except gzip.BadGzipFile as error:
            raise DamagedArchive(first_line(error)) from error
        data = b"".join(chunks)
        self.recent = (self.recent + data)[-BLOCK:] if len(data) < BLOCK else data[-BLOCK:]
        self._at += len(data)
        return data

    def read_at(self, offset: int, size: int) -> bytes:
        """So many bytes from `offset` on; fewer at the end."""
        self.seek(offset)
        return self.read(size) if self._at == offset else b""

    def give_back(self, data: bytes, offset: int) -> None:
        """Takes back the last bytes that were read, from `offset` on."""
        self._given_back, self._at, self.recent = data + self._given_back, offset, b""

    def pass_to(self, end: int, name: str) -> None:
        """Goes forward to `end`, that of the file `name` in the archive, and reads its last bytes."""
        if end <= self._at:
            return
        self.seek(max(self._at, end - BLOCK))
        if len(self.read(end - self._at)) == 0 or self._at < end:
            raise _cut_off(name)

    def pass_zeros(self, offset: int) -> tuple[int, bool]:
        """Where the zeros end that begin at `offset`, already read, and whether the file ends there.

        Raises DamagedArchive for zeros without end.
        """
        assert self._at >= offset
        while self._at - offset <= _MOST_ZEROS:
            data = self.read(_STEP)
            if not data:
                return self._at, True
            if rest := data.lstrip(b"\0"):
                first = self._at - len(rest)
                block = first - first % BLOCK
                self.give_back(data[block - self._at :], block)  # all that is read here begins with a block
                return first, False
        raise DamagedArchive(f"from byte {offset} on it is zeros without end")
