"""A long row of small tuples, of which only the first ones are kept in memory."""

from __future__ import annotations

import marshal
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from clip_qdrant.errors import SourceError

__all__ = ["Spool"]

_IN_MEMORY = 20_000


class Spool:
    """Tuples of texts, numbers and None, which can be read once, in the order they were appended.

    The first 20,000 are in memory, the others in a temporary file, about 100 bytes each. The file is deleted with the
    spool. Raises SourceError if there is no room for it.
    """

    def __init__(self) -> None:
        self._first: list[tuple[Any, ...]] = []
        self._file: IO[bytes] | None = None

    def append(self, row: tuple[Any, ...]) -> None:
        if len(self._first) < _IN_MEMORY:
            self._first.append(row)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  it is closed when it has been read
            marshal.dump(row, self._file)
        except OSError as error:
            raise _no_room(error) from error

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        yield from self._first
        self._first = []
        if self._file is None:
            return
        with self._file as file:
            try:
                file.seek(0)  # writes what is still in the buffer
            except OSError as error:
                raise _no_room(error) from error
            while True:
                try:
                    row = marshal.load(file)  # noqa: S302  of our own
                except EOFError:
                    return
                yield row


def _no_room(error: OSError) -> SourceError:
    folder = tempfile.gettempdir()
    return SourceError(
        f"cannot keep a listing in {folder}: {error.strerror or error}; set TMPDIR to a folder with room"
    )
