"""Samples of a WebDataset archive: the files that share a name up to its first dot.

`0007.json` has caption and metadata of `0007.jpg`, `0007.txt` its caption, `0007.cls` its metadata field `class`. Where
a sample has several images, `0007.left.json` speaks of `0007.left.jpg` alone. As a rule the files of a sample follow
one another; those that do not, `Apart` brings together.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, cast
from urllib.parse import quote

from clip_qdrant.errors import DamagedArchive, MetadataError
from clip_qdrant.images.suffixes import IMAGE_SUFFIXES
from clip_qdrant.tables.rows import parse_object
from clip_qdrant.tables.tar import Member, TarStream, sample_key
from clip_qdrant.url_secrets import remove_secrets
from clip_qdrant_ingestion.sources.archives.apart import SIDECARS, Apart
from clip_qdrant_ingestion.sources.descriptions import describe_fields, describe_text
from clip_qdrant_ingestion.sources.leftovers import lies_in_leftovers
from clip_qdrant_ingestion.sources.protocol import OBJECTS_A_PAGE, Description, Problem, SourceObject
from clip_qdrant_ingestion.sources.tree.selection import NO_SUFFIX

__all__ = ["CONTENT_A_PAGE", "Sample", "fragment_of", "read_samples"]

CONTENT_A_PAGE = 32 << 20  # bytes; a larger image comes without its content
_CONTENT_A_SAMPLE = 1 << 30  # bytes, of which CONTENT_A_PAGE are in memory
_LARGEST_SIDECAR = 1 << 20  # bytes
_SIDECARS_A_SAMPLE = 4 << 20  # bytes
_MOST_SIDECARS = 4 * OBJECTS_A_PAGE  # of a sample
_WHAT_NOW = "pack the archive with the file itself (tar --dereference --hard-dereference, without --sparse)"


@dataclass(slots=True)
class Sample:
    """The files of one sample. The content of its images is kept in memory up to CONTENT_A_PAGE, then in a file.

    `sidecars` and `text` count the sidecars that were read and their bytes; `partial` says that there are more.
    """

    key: str
    images: list[tuple[Member, bool]] = field(default_factory=list)  # and whether its content is kept
    said: dict[tuple[str, str], Description] = field(default_factory=dict)  # by stem and suffix of the sidecar
    broken: list[tuple[Member, str]] = field(default_factory=list)
    content: int = 0
    sidecars: int = 0
    text: int = 0
    partial: bool = False
    passed_over: Counter[str] = field(default_factory=Counter)  # files of other kinds, by suffix
    _kept: IO[bytes] | None = None

    @property
    def is_full(self) -> bool:
        return len(self.images) >= OBJECTS_A_PAGE or self.content >= _CONTENT_A_SAMPLE

    def add(self, stream: TarStream, member: Member, *, streamed: bool) -> None:
        """Takes the file at hand, if it is an image or a sidecar. Raises DamagedArchive."""
        suffix = posixpath.splitext(member.name)[1].lower()
        if suffix in IMAGE_SUFFIXES:
            keeps = streamed and member.instead is None and member.size <= CONTENT_A_PAGE
            if keeps:
                self._keep(stream.read(member))
            else:
                stream.pass_over(member)
            self.images.append((member, keeps))
        elif suffix in SIDECARS:
            self.add_sidecar(member, lambda: stream.read(member))
        else:
            self.passed_over[suffix or NO_SUFFIX] += 1

    def add_sidecar(self, member: Member, read: Callable[[], bytes]) -> None:
        """Takes a sidecar, whose content `read` gives."""
        if self.partial:
            return
        stem, suffix = posixpath.splitext(member.name)
        suffix = suffix.lower()
        try:
            self.said[stem, suffix] = self._read_sidecar(member, suffix, read)
        except MetadataError as error:
            self.said[stem, suffix] = Description(partial=True)
            self.broken.append((member, f"{member.name}: {error}"))

    def close(self) -> None:
        """Lets go of the content that is kept."""
        if self._kept is not None:
            self._kept.close()

    def _keep(self, content: bytes) -> None:
        if self._kept is None:
            self._kept = cast("IO[bytes]", tempfile.SpooledTemporaryFile(CONTENT_A_PAGE))  # noqa: SIM115  see close
        self._kept.write(content)
        self.content += len(content)

    def _read_sidecar(self, member: Member, suffix: str, read: Callable[[], bytes]) -> Description:
        """What a sidecar says. Raises MetadataError."""
        self.sidecars += 1
        self.text += min(member.size, _LARGEST_SIDECAR)
        if self.sidecars > _MOST_SIDECARS or self.text > _SIDECARS_A_SAMPLE:
            self.partial = True
            raise MetadataError(
                f"its sample {self.key!r} has more than {_MOST_SIDECARS} files of text or {_SIDECARS_A_SAMPLE} bytes "
                "of them; this one and those after it are not read"
            )
        if member.instead is not None:
            raise MetadataError(f"it is {member.instead}; {_WHAT_NOW}")
        if member.size > _LARGEST_SIDECAR:
            raise MetadataError(f"it has {member.size} bytes; the limit is {_LARGEST_SIDECAR}")
        return _read_sidecar(read(), suffix)

    def objects(self, uri: str, version: str | None, *, packed: bool) -> Iterator[tuple[SourceObject | Problem, int]]:
        """What the sample holds, each with the bytes of memory that it takes, about.

        `packed`: the archive is compressed, so that nothing can be read at its place.
        """
        if self._kept is not None:
            self._kept.seek(0)
        kept = remove_secrets(uri)
        for member, is_kept in self.images:
            shown = f"{kept}#{fragment_of(member)}"
            if member.instead is not None:
                detail = f"{shown} is {member.instead}; {_WHAT_NOW}"
                yield Problem(shown, "unreadable", detail, hides_objects=True), 0
                continue
            content = self._kept.read(member.size) if is_kept and self._kept is not None else None
            said = Description(partial=self.partial)
            for stem in dict.fromkeys((self.key, posixpath.splitext(member.name)[0])):  # its own sidecars win
                for suffix in SIDECARS:
                    if (stem, suffix) in self.said:
                        said = self.said[stem, suffix].over(said)
            etag = None if version is None else f"{version}:{member.offset}{'z' if packed else ''}:{member.size}"
            name = member.name.removeprefix("./")
            address = None if kept == uri else f"{uri}#{fragment_of(member)}"
            item = SourceObject(shown, name, member.size, None, etag, said, content, address)
            yield item, len(content or b"") + self.text
        for member, detail in self.broken:
            yield Problem(f"{kept}#{fragment_of(member)}", "bad metadata", detail), 0


def read_samples(stream: TarStream, *, streamed: bool, apart: Apart, hidden: bool = False) -> Iterator[Sample]:
    """The samples of an archive; a sample of very many images comes in pieces. What programs leave beside pictures
    (`sources.leftovers`) is passed over unless `hidden` is set.

    Each must be used before the next one is asked for. Raises DamagedArchive after all that could be read.
    """
    sample = Sample("")
    damage = None
    members = iter(stream)
    try:
        while True:
            try:
                member = next(members, None)
                if member is None:
                    break
                key = sample_key(member.name)
                if key is None or apart.has_read(member) or (not hidden and lies_in_leftovers(member.name)):
                    continue
                if key != sample.key or sample.is_full:
                    _bring_together(sample, apart)
                    yield sample
                    sample.close()
                    sample = Sample(key)
                sample.add(stream, member, streamed=streamed)
            except DamagedArchive as error:
                damage = error
                break
        _bring_together(sample, apart)
        yield sample
    finally:
        sample.close()
    if damage is not None:
        raise damage


def _bring_together(sample: Sample, apart: Apart) -> None:
    """Gives the sample what lies apart from its images, or keeps for them what came without."""
    if not sample.images:
        if sample.said:
            apart.keep(sample.key, sample.said, sample.text)
        return
    behind = None if sample.said else sample.images[0][0].offset
    ahead = apart.find_ahead(sample.key, behind)
    sample.said = {**apart.kept(sample.key), **sample.said}
    for member, read in ahead:
        sample.add_sidecar(member, read)


def _read_sidecar(data: bytes, suffix: str) -> Description:
    """What a sidecar says. Raises MetadataError."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise MetadataError("not UTF-8 text") from error
    if suffix == ".json":
        return describe_fields(parse_object(text))
    if suffix == ".cls":
        return Description(texts={"class": text} if text else {})
    return describe_text(text)


def fragment_of(member: Member) -> str:
    return quote(os.fsencode(member.name.removeprefix("./")))
