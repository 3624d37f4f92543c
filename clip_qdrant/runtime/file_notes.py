"""What is known of files that take long to read, remembered as long as their size, time and inode do not change."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_qdrant.errors import ExportError
from clip_qdrant.file_replacement import open_replacement
from clip_qdrant.runtime.sealed_json import read_sealed, seal

__all__ = ["FileNotes", "Note"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Note:
    """`source` gives vectors of `fingerprint`. `content` is the sha256 of its files, "" where nobody asked for it."""

    source: str
    fingerprint: str
    content: str = ""


class FileNotes:
    """A folder of notes, one a source: `<sha256 of the source's name>.json`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, source: str, files: Sequence[Path]) -> Note | None:
        """The note of a source whose files are what they were when it was made. Without files it holds for ever."""
        try:
            found = read_sealed(self._find(source))
        except ExportError:
            return None
        if found.get("source") != source or found.get("files") != _sign(files):
            return None
        return Note(source, str(found.get("fingerprint")), str(found.get("content")))

    def remember(self, note: Note, files: Sequence[Path]) -> None:
        """Keeps a note; where that is not possible the files will be read again."""
        values = {"source": note.source, "fingerprint": note.fingerprint, "content": note.content}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open_replacement(self._find(note.source)) as file:
                file.write(seal({**values, "files": _sign(files)}).encode())
        except OSError as error:
            logger.info("%s will be checked again at the next start: %s", note.source, error)

    def mark_used(self, source: str) -> None:
        """Keeps that a source is in use now, as the time of its note; systems seldom note when a file was last read."""
        with contextlib.suppress(OSError):
            os.utime(self._find(source))

    def find_last_use(self, source: str) -> float | None:
        """When a source was last marked, in seconds since 1970; None if there is no note of it."""
        try:
            return self._find(source).stat().st_mtime
        except OSError:
            return None

    def __iter__(self) -> Iterator[Note]:
        """All notes, also those whose files have changed."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                found = read_sealed(path)
            except ExportError:
                continue
            yield Note(str(found.get("source")), str(found.get("fingerprint")), str(found.get("content")))

    def forget(self, source: str) -> None:
        """Removes the note of a source, if there is one. Raises OSError."""
        self._find(source).unlink(missing_ok=True)

    def _find(self, source: str) -> Path:
        return self._folder / f"{hashlib.sha256(source.encode()).hexdigest()}.json"


def _sign(files: Sequence[Path]) -> list[list[object]]:
    told = [(str(file), file.stat()) for file in files]
    return [[name, about.st_size, about.st_mtime_ns, about.st_ino] for name, about in told]
