"""WebDataset archives: tar files whose members of one name are a sample. Images are read from them by their offset."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import IO, NamedTuple

from clip_qdrant.errors import DamagedArchive, MissingExtra, SourceError, TrainingError
from clip_qdrant.images.suffixes import IMAGE_SUFFIXES
from clip_qdrant.tables.braces import expand_braces
from clip_qdrant.tables.columns import CAPTION_COLUMNS, find_field
from clip_qdrant.tables.suffixes import is_archive
from clip_qdrant.tables.tar import TarStream, sample_key
from clip_qdrant_training.data.pairs import Pair, clean_captions

__all__ = ["TarImage", "names_archives", "read_archives"]

_TEXTS = frozenset({".txt", ".json"})
_LARGEST_TEXT = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class TarImage:
    """An image in a tar file: nothing of it is in memory before it is read."""

    path: str
    offset: int
    size: int
    name: str

    def read(self) -> bytes:
        """The bytes of the member. Raises SourceError."""
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123  of every step: no Path is made for it
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise SourceError(f"cannot read {self}: {error.strerror or error}") from error
        if len(data) < self.size:
            raise SourceError(f"cannot read {self}: the shard ends {self.size - len(data)} bytes early; copy it again")
        return data

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"


class _SampleFile(NamedTuple):
    """A file of a sample: `suffix` is its name from the first dot on, in lower case."""

    key: str
    suffix: str
    data: TarImage | bytes


def names_archives(path: Path) -> bool:
    """Whether a path is a tar file, a folder of them, or a pattern of braces such as shards-{000..003}.tar."""
    return is_archive(path.name) or (path.is_dir() and any(path.glob("*.tar")))


def read_archives(path: Path) -> list[Pair]:
    """The pairs of all archives, in order. Raises TrainingError naming archive and sample.

    Only the headers and the texts are read.
    """
    if path.is_dir():
        archives = sorted(path.glob("*.tar"))
    else:  # a file may have braces in its own name
        archives = [path] if path.exists() else [Path(each) for each in expand_braces(str(path))]
    pairs = [pair for archive in archives for pair in _read_archive(archive)]
    if not pairs:
        raise TrainingError(f"{path} holds no pairs: a sample is NAME.jpg (or .png ...) with NAME.txt or NAME.json")
    return pairs


def _read_archive(archive: Path) -> Iterator[Pair]:
    try:
        with archive.open("rb") as file:
            samples = _join_parts([list(files) for _, files in groupby(_read_files(file, archive), attrgetter("key"))])
    except (DamagedArchive, MissingExtra, OSError) as error:
        raise TrainingError(f"cannot read the shard {archive}: {error}") from error
    for files in samples:
        yield _pair(files, f"{archive} sample {files[0].key!r}")


def _join_parts(runs: Sequence[list[_SampleFile]]) -> list[list[_SampleFile]]:
    """The samples: files of one name that follow one another, or lie apart, as `tar cf set.tar *.jpg *.txt` has them.

    A run of files that has no image, or no text, is a part of a sample.
    """
    samples: list[list[_SampleFile]] = []
    parts: dict[str, list[_SampleFile]] = {}
    for run in runs:
        kinds = {isinstance(file.data, TarImage) for file in run}
        key = run[0].key
        if len(kinds) == 2:
            samples.append(run)
        elif key in parts:
            parts[key].extend(run)
        else:
            parts[key] = run
            samples.append(run)
    return samples


def _read_files(file: IO[bytes], archive: Path) -> Iterator[_SampleFile]:
    """The files of samples: of an image the place, of a text what is in it."""
    stream = TarStream(file, seekable=True)
    if stream.compression is not None:
        raise TrainingError(
            f"the shard {archive} is packed by {stream.compression}, but training reads images at their places: "
            f"unpack it first, as in gzip -dc {archive.name} > plain.tar"
        )
    for member in stream:
        key, suffix = sample_key(member.name), posixpath.splitext(member.name)[1].lower()
        if key is None or suffix not in _TEXTS | IMAGE_SUFFIXES:
            continue
        if member.instead is not None:
            raise TrainingError(f"{archive}: {member.name} is {member.instead}; pack the archive with the file itself")
        if suffix in _TEXTS and member.size > _LARGEST_TEXT:
            raise TrainingError(f"{archive}: {member.name} has {member.size} bytes; a text has {_LARGEST_TEXT} at most")
        is_text = suffix in _TEXTS
        data = stream.read(member) if is_text else TarImage(str(archive), member.offset, member.size, member.name)
        yield _SampleFile(key, posixpath.basename(member.name).partition(".")[2].lower(), data)


def _pair(files: Sequence[_SampleFile], where: str) -> Pair:
    suffixes = [file.suffix for file in files]
    if doubled := next((suffix for suffix in suffixes if suffixes.count(suffix) > 1), None):
        raise TrainingError(f"{where} has a duplicate file name: .{doubled} is there twice")
    images = [file.data for file in files if isinstance(file.data, TarImage)]
    texts = [
        text
        for file in files
        if isinstance(file.data, bytes)
        for text in _texts(file.data, file.suffix, f"{where} .{file.suffix}")
    ]
    if len(images) != 1:
        raise TrainingError(
            f"{where} has {len(images)} images{''.join(f', {image.name}' for image in images)}, and needs one: the "
            "name of a sample is all before the first dot of its files"
        )
    # A .json often repeats the .txt beside it.
    return Pair(images[0], clean_captions(list(dict.fromkeys(texts)), where))


def _texts(data: bytes, suffix: str, where: str) -> list[str]:
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text) if suffix.endswith("json") else text
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{where} is not {'JSON' if suffix.endswith('json') else 'UTF-8'}: {error}") from error
    if isinstance(value, dict):
        key = find_field(value, CAPTION_COLUMNS)
        value = value[key] if key is not None else []
    texts = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(each, str) for each in texts):
        raise TrainingError(f"{where} holds captions that are no texts: {value!r:.80}")
    return [each.strip() for each in texts]
