"""Sidecars that lie apart from their images: `tar cf set.tar *.jpg *.txt` packs all images before all captions.

What comes before its image is kept in memory until then. What comes behind it is looked for in advance, where an
archive can be read at any place; in one that is streamed it comes too late, and that is told.
"""

from __future__ import annotations

import contextlib
import logging
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import groupby
from typing import IO

from clip_qdrant.errors import DamagedArchive
from clip_qdrant.images.suffixes import IMAGE_SUFFIXES
from clip_qdrant.tables.tar import Member, TarStream, sample_key
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.sources.protocol import Description

__all__ = ["SIDECARS", "Apart"]

logger = logging.getLogger(__name__)

SIDECARS = (".cls", ".json", ".txt")  # the later wins
_MOST_AHEAD = 500_000  # files, about 300 bytes each
_MOST_KEPT = 32 << 20  # bytes of text, which take some times as much as descriptions
_MOST_KEPT_SAMPLES = 100_000

Said = Mapping[tuple[str, str], Description]


class Apart:
    """The sidecars of one archive that do not follow their images, or are not followed by them.

    `open_again` opens the archive for another look into it; None for one that is streamed.
    """

    def __init__(self, open_again: Callable[[], AbstractContextManager[IO[bytes]]] | None) -> None:
        self._open_again = open_again
        self._resources = contextlib.ExitStack()
        self._file: IO[bytes] | None = None
        self._ahead: dict[str, list[Member]] = {}
        self._read: set[int] = set()  # offsets of those that were looked for in advance
        self._images = TextSet()
        self._kept: dict[str, Said] = {}
        self._size = 0
        self._late, self._late_count = "", 0

    def close(self) -> None:
        """Lets go of the archive, and warns of sidecars that belong to no image."""
        self._resources.close()
        if self._kept:
            logger.warning("%d samples of an archive have no image, such as %r", len(self._kept), min(self._kept))

    @property
    def problem(self) -> str | None:
        """What is lost: sidecars that came too late."""
        if not self._late_count:
            return None
        return (
            f"what is said of {self._late_count} images, such as {self._late!r}, lies apart from them and is not used: "
            "pack the files of an image one behind the other (tar --sort=name)"
        )

    def has_read(self, member: Member) -> bool:
        """Whether a file was read in advance."""
        return member.offset in self._read

    def keep(self, key: str, said: Said, size: int) -> None:
        """Takes note of sidecars without an image; `size` are the bytes that were read of them."""
        if key in self._images or self._size + size > _MOST_KEPT or len(self._kept) >= _MOST_KEPT_SAMPLES:
            self._late_count += 1
            self._late = self._late or key
        else:
            self._kept[key] = {**self._kept.get(key, {}), **said}
            self._size += size

    def kept(self, key: str) -> Said:
        """What was said of a sample before its images, which come now."""
        self._images.add_all([key])
        return self._kept.pop(key, {})

    def find_ahead(self, key: str, behind: int | None) -> Iterator[tuple[Member, Callable[[], bytes]]]:
        """The sidecars of a sample that lie apart from its images, and how each is read.

        All that there are behind the offset `behind` are looked for when a sample comes that has none of its own; for
        one that has some, `behind` is None.
        """
        if self._open_again is not None and behind is not None:
            self._look_ahead(self._open_again, behind)
            self._open_again = None
        for member in self._ahead.pop(key, ()):
            self._read.add(member.offset)
            yield member, lambda member=member: self._read_at(member)  # type: ignore[misc]  # mypy sees no default

    def _look_ahead(self, open_again: Callable[[], AbstractContextManager[IO[bytes]]], behind: int) -> None:
        self._file = self._resources.enter_context(open_again())
        count = 0
        files = (file for file in TarStream(self._file, seekable=True) if sample_key(file.name) is not None)
        with contextlib.suppress(DamagedArchive):  # which the listing itself tells
            for key, group in groupby(files, lambda file: sample_key(file.name)):
                sidecars: list[Member] = []
                for file in group:
                    suffix = posixpath.splitext(file.name)[1].lower()
                    if suffix in IMAGE_SUFFIXES:
                        sidecars = []
                        break
                    if suffix in SIDECARS and len(sidecars) < _MOST_AHEAD:
                        sidecars.append(file)
                if sidecars and sidecars[0].offset > behind and key is not None and count < _MOST_AHEAD:
                    count += len(sidecars)
                    self._ahead.setdefault(key, []).extend(sidecars)

    def _read_at(self, member: Member) -> bytes:
        assert self._file is not None
        self._file.seek(member.offset)
        data = self._file.read(member.size)
        if len(data) < member.size:
            raise DamagedArchive(f"unexpected end of data: it ends within {member.name!r}")
        return data
