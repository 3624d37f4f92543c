"""Samples of a WebDataset archive: the files that follow one another and share a name up to its first dot.

`0007.json` has caption and metadata of `0007.jpg`, `0007.txt` its caption, `0007.cls` its metadata field `class`. Where
a sample has several images, `0007.left.json` speaks of `0007.left.jpg` alone.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from clip_qdrant.errors import DamagedArchive, MetadataError, without_user_info
from clip_qdrant_ingestion.sources.globs import IMAGE_SUFFIXES
from clip_qdrant_ingestion.sources.rows import described, parse_object
from clip_qdrant_ingestion.sources.source import OBJECTS_A_PAGE, Description, Problem, SourceObject
from clip_qdrant_ingestion.sources.tars import Member, TarStream

__all__ = ["CONTENT_A_PAGE", "Sample", "fragment_of", "samples"]

CONTENT_A_PAGE = 32 << 20  # bytes; a larger image comes without its content
_LARGEST_SIDECAR = 1 << 20  # bytes
_SIDECARS = (".cls", ".json", ".txt")  # the later wins


@dataclass(slots=True)
class Sample:
    """Files of one name, up to its first dot."""

    key: str
    images: list[tuple[Member, bytes | None]] = field(default_factory=list)
    said: dict[tuple[str, str], Description] = field(default_factory=dict)  # by stem and suffix of the sidecar
    broken: list[tuple[Member, str]] = field(default_factory=list)
    content: int = 0

    def add(self, stream: TarStream, member: Member, *, streamed: bool) -> None:
        """Takes the file at hand, if it is an image or a sidecar. Raises DamagedArchive."""
        stem, suffix = posixpath.splitext(member.name)
        suffix = suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            content = None
            if streamed and self.content + member.size <= CONTENT_A_PAGE:
                content = stream.read(member)
                self.content += member.size
            else:
                stream.pass_over(member)
            self.images.append((member, content))
        elif suffix in _SIDECARS:
            try:
                if member.size > _LARGEST_SIDECAR:
                    raise MetadataError(f"it has {member.size} bytes; the limit is {_LARGEST_SIDECAR}")  # noqa: TRY301
                self.said[stem, suffix] = _described(stream.read(member), suffix)
            except MetadataError as error:
                self.said[stem, suffix] = Description(partial=True)
                self.broken.append((member, f"{member.name}: {error}"))

    def objects(self, uri: str, version: str | None) -> Iterator[SourceObject | Problem]:
        for member, content in self.images:
            said = Description()
            for stem in dict.fromkeys((self.key, posixpath.splitext(member.name)[0])):  # its own sidecars win
                for suffix in _SIDECARS:
                    if (stem, suffix) in self.said:
                        said = self.said[stem, suffix].over(said)
            etag = None if version is None else f"{version}:{member.offset}:{member.size}"
            name = member.name.removeprefix("./")
            yield SourceObject(f"{uri}#{fragment_of(member)}", name, member.size, None, etag, said, content)
        for member, detail in self.broken:
            yield Problem(f"{without_user_info(uri)}#{fragment_of(member)}", "bad metadata", detail)


def samples(stream: TarStream, *, streamed: bool) -> Iterator[Sample]:
    """The samples of an archive; one of very many images in pieces. Raises DamagedArchive after what lies before."""
    sample = Sample("")
    damage = None
    members = iter(stream)
    while True:
        try:
            member = next(members, None)
            if member is None:
                break
            folder, file_name = posixpath.split(member.name)
            if file_name.startswith((".", "__")) or "." not in file_name:
                continue
            key = posixpath.join(folder, file_name.partition(".")[0])
            if key != sample.key or len(sample.images) >= OBJECTS_A_PAGE:
                yield sample
                sample = Sample(key)
            sample.add(stream, member, streamed=streamed)
        except DamagedArchive as error:
            damage = error
            break
    yield sample
    if damage is not None:
        raise damage


def _described(data: bytes, suffix: str) -> Description:
    """What a sidecar says. Raises MetadataError."""
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise MetadataError("not UTF-8 text") from error
    if suffix == ".json":
        return described(parse_object(text))
    if suffix == ".cls":
        return Description(texts={"class": text} if text else {})
    return Description(text or None)


def fragment_of(member: Member) -> str:
    return quote(os.fsencode(member.name.removeprefix("./")))
