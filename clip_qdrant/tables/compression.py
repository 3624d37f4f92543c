"""Files that are compressed, told by their first bytes, whatever their names say: gzip, bzip2, xz, zstd.

They are unpacked piece by piece, and what is wrong with a compression is a `gzip.BadGzipFile`, whichever it is.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Mapping
from typing import IO, Any, Literal, cast

from clip_qdrant.errors import ClipQdrantError, MissingExtra, first_line

__all__ = ["COMPRESSION_SUFFIXES", "Compression", "open_unpacked"]

Compression = Literal["gzip", "bzip2", "xz", "zstd"]

COMPRESSION_SUFFIXES: Mapping[str, Compression] = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}

_FIRST_BYTES: Mapping[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_STEP = 1 << 16  # packed bytes
_PIECE = 1 << 16  # unpacked bytes that are read at once; damage within them costs them all
_MOST_MEMORY = 256 << 20  # bytes; the strongest preset of xz needs 65 MiB


def open_unpacked(file: IO[bytes]) -> tuple[IO[bytes], Compression | None]:
    """The file as it is without its compression, from its beginning, and which compression that is; None for none.

    `file` can seek. Raises MissingExtra where a library is needed for the compression. Reading raises
    gzip.BadGzipFile for a compression that is damaged or cut off, and whatever reading `file` raises.
    """
    file.seek(0)
    head = file.read(max(map(len, _FIRST_BYTES)))
    file.seek(0)
    kind = next((kind for first, kind in _FIRST_BYTES.items() if head.startswith(first)), None)
    if kind is None:
        return file, None
    return io.BufferedReader(_Unpacked(_OPENERS[kind](file), kind), _PIECE), kind


class _Unpacked(io.RawIOBase):
    """What a decompressor gives, with one kind of error for all of them."""

    def __init__(self, file: Any, kind: Compression) -> None:
        self._file, self._kind = file, kind

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(min(len(buffer), _PIECE))
        except ClipQdrantError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the file below
                raise
            raise gzip.BadGzipFile(f"its {self._kind} compression is damaged: {first_line(error)}") from error
        buffer[: len(data)] = data
        return len(data)


class _Streams:
    """The streams of bzip2 or xz that follow one another in a file, unpacked in bounded memory."""

    def __init__(self, file: IO[bytes], make: Callable[[], Any]) -> None:
        self._file, self._make = file, make
        self._stream = make()
        self._packed = b""

    def read(self, size: int) -> bytes:
        while True:
            if self._stream.eof:
                # Zeros behind a stream of xz are its padding (its format, section 2.2).
                self._packed = (self._stream.unused_data or self._file.read(_STEP)).lstrip(b"\0")
                if not self._packed and not self._skip_zeros():
                    return b""
                self._stream = self._make()
            elif self._stream.needs_input and not self._packed:
                self._packed = self._file.read(_STEP)
                if not self._packed:
                    raise EOFError("it ends early")
            data: bytes = self._stream.decompress(self._packed, size)
            self._packed = b""
            if data:
                return data

    def _skip_zeros(self) -> bool:
        while not self._packed and (packed := self._file.read(_STEP)):
            self._packed = packed.lstrip(b"\0")
        return bool(self._packed)


class _Gzip:
    """A file of gzip, whose bytes before damage are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = gzip.GzipFile(fileobj=file)

    def read(self, size: int) -> bytes:
        return self._file.read1(size)


def _open_gzip(file: IO[bytes]) -> Any:
    return _Gzip(file)


def _open_bzip2(file: IO[bytes]) -> Any:
    return _Streams(file, bz2.BZ2Decompressor)


def _open_xz(file: IO[bytes]) -> Any:
    return _Streams(file, lambda: lzma.LZMADecompressor(memlimit=_MOST_MEMORY))


def _open_zstd(file: IO[bytes]) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtra("pyarrow", "worker", "reading what zstd packed") from error
    return pa.CompressedInputStream(pa.PythonFile(cast("Any", _Kept(file)), mode="r"), "zstd")


class _Kept:
    """A file for pyarrow, which closes what it reads; the file stays its owner's."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        pass


_OPENERS: Mapping[Compression, Callable[[IO[bytes]], Any]] = {
    "gzip": _open_gzip,
    "bzip2": _open_bzip2,
    "xz": _open_xz,
    "zstd": _open_zstd,
}
