"""Headers of tar archives: ustar and PAX (POSIX.1-2017, pax), and the extensions of GNU tar.

What a header cannot be is a DamagedArchive. Nothing here reads from a file.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from clip_qdrant.errors import DamagedArchive

__all__ = ["BLOCK", "EXTENSIONS", "Header", "extend_header", "find_header", "parse_header", "parse_pax"]

BLOCK = 512  # bytes, of which an archive is made
EXTENSIONS = b"LKxXg"  # kinds of headers that speak of the next one, or (g) of all that follow
_WITHOUT_CONTENT = b"123456"  # links, devices, folders
_MAGIC, _MAGIC_AT = b"ustar", 257
_OF_GNU = b"ustar  \0"
_LARGEST = 1 << 60  # bytes of a file
_RECORD = re.compile(rb"([0-9]{1,9}) ([^=\0]+)=")
_CHECKSUM_AT = slice(148, 156)


@dataclass(frozen=True, slots=True)
class Header:
    """What is said of one file. `size` is that of its content in the archive, `link` what a link leads to.

    `goes_on`: the old header of a sparse file has more blocks behind it.
    """

    name: str
    size: int
    kind: bytes
    link: str = ""
    sparse: bool = False
    goes_on: bool = False

    @property
    def is_file(self) -> bool:
        return self.kind in (b"0", b"\0", b"7", b"S") and not (self.kind == b"\0" and self.name.endswith("/"))

    @property
    def content(self) -> int:
        """The bytes that follow before the next header."""
        return 0 if self.kind in _WITHOUT_CONTENT else -(-self.size // BLOCK) * BLOCK


def parse_header(block: bytes) -> Header:
    """The header in one block. Raises DamagedArchive."""
    if not _has_checksum(block):
        raise DamagedArchive("its checksum is wrong")
    kind = block[156:157]
    name = _text(block[:100])
    if not block.startswith(_OF_GNU, _MAGIC_AT) and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    sparse = kind == b"S"
    return Header(name, _number(block[124:136]), kind, _text(block[157:257]), sparse, sparse and block[482] != 0)


def extend_header(header: Header, long: Mapping[bytes, bytes], records: Mapping[bytes, bytes]) -> Header:
    """The header with what was said before it: `long` has the content of L and K headers, `records` those of PAX.

    Raises DamagedArchive.
    """
    if b"L" in long:
        header = replace(header, name=_text(long[b"L"]))
    if b"K" in long:
        header = replace(header, link=_text(long[b"K"]))
    if (path := records.get(b"GNU.sparse.name", records.get(b"path"))) is not None:
        header = replace(header, name=os.fsdecode(path))
    if (link := records.get(b"linkpath")) is not None:
        header = replace(header, link=os.fsdecode(link))
    if (size := records.get(b"size")) is not None:
        if not re.fullmatch(rb"[0-9]{1,20}", size) or int(size) > _LARGEST:
            raise DamagedArchive(f"a file of {size[:30].decode('ascii', 'replace')} bytes cannot be")
        header = replace(header, size=int(size))
    if any(key.startswith(b"GNU.sparse.") for key in records):
        header = replace(header, sparse=True)
    if header.is_file and not header.name.strip("/"):
        raise DamagedArchive("a file has no name")
    return header


def parse_pax(data: bytes) -> dict[bytes, bytes]:
    """The records of a PAX header. Raises DamagedArchive."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        if records and not data[at:].strip(b"\0"):  # some writers pad with zeros
            break
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise DamagedArchive("its PAX records cannot be read")
        records[match[2]] = data[match.end() : end - 1]
        at = end
    return records


def find_header(data: bytes, start: int = 0) -> int:
    """Where in whole blocks the first header lies from `start` on, -1 for nowhere. A v7 header is not recognised."""
    at = data.find(_MAGIC, start + _MAGIC_AT)
    while at >= 0:
        begin = at - _MAGIC_AT
        if begin % BLOCK == 0 and begin + BLOCK <= len(data) and _has_checksum(data[begin : begin + BLOCK]):
            return begin
        at = data.find(_MAGIC, at + 1)
    return -1


def _has_checksum(block: bytes) -> bool:
    """Whether the sum of the bytes is the one in the header; old writers took them for signed."""
    try:
        told = _number(block[_CHECKSUM_AT])
    except DamagedArchive:
        return False
    spaced = block[:148] + b" " * 8 + block[156:]
    return told == sum(spaced) or told == sum(struct.unpack(f"{BLOCK}b", spaced))


def _number(field: bytes) -> int:
    """Octal digits, or the base 256 of GNU tar. Raises DamagedArchive."""
    if field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big", signed=False) if field[0] == 0x80 else -1
    else:
        digits = field.partition(b"\0")[0].strip()
        if not re.fullmatch(rb"[0-7]*", digits):
            raise DamagedArchive(f"{digits!r} is no number")
        number = int(digits or b"0", 8)
    if not 0 <= number <= _LARGEST:
        raise DamagedArchive("a number in it makes no sense")
    return number


def _text(field: bytes) -> str:
    return os.fsdecode(field.partition(b"\0")[0])
