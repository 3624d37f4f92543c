"""Tables of text in UTF-16 or UTF-32, which their first bytes tell, as tables in UTF-8."""

from __future__ import annotations

import codecs
import io
import os
from typing import IO, Any

__all__ = ["open_utf8"]

_ORDER_MARKS = (  # the first four bytes of UTF-32 begin as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BUFFER = 1 << 16


def open_utf8(file: IO[bytes]) -> IO[bytes]:
    """The rest of a file in UTF-8; the file itself, unless a byte order mark says that it is UTF-16 or UTF-32.

    What is wrong in these becomes bytes that are wrong in UTF-8, and costs the row that it is in.
    """
    head = _peek(file)
    for mark, encoding in _ORDER_MARKS:
        if head.startswith(mark):
            return io.BufferedReader(_Transcoded(file, encoding), _BUFFER)
    return file


def _peek(file: IO[bytes]) -> bytes:
    if isinstance(file, (io.BufferedReader, io.BufferedRandom)):
        return file.peek(4)[:4]
    head = file.read(4)
    file.seek(-len(head), os.SEEK_CUR)
    return head


class _Transcoded(io.RawIOBase):
    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file = file
        # Half a pair of surrogates stays one, which UTF-8 does not have.
        errors = "surrogatepass" if encoding == "utf-16" else "replace"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ended:
            data = self._file.read(len(buffer) // 2)  # a character of UTF-16 takes at most half as much again
            self._ended = not data
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError:  # it ends within a character
                found = b"\xff"
            else:
                found = text.encode("utf-8", "surrogatepass")
            if found:
                buffer[: len(found)] = found
                return len(found)
        return 0
