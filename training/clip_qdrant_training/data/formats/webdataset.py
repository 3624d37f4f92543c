"""WebDataset shards: tar files whose members of one name are a sample. Images are read from them by their offset."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_qdrant.errors import MissingExtra, SourceError, TrainingError
from clip_qdrant_training.data.formats.entries import CAPTION_FIELDS, field_of
from clip_qdrant_training.data.pairs import Pair, clean_captions

__all__ = ["TarImage", "is_shards", "read_shards"]

_IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "ppm"})
_TEXTS = frozenset({"txt", "json"})


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


def is_shards(path: Path) -> bool:
    """Whether a path is a tar file, a folder of them, or a pattern of braces such as shards-{000..003}.tar."""
    return path.name.endswith((".tar", ".tar.gz", ".tgz")) or (path.is_dir() and any(path.glob("*.tar")))


def read_shards(path: Path) -> list[Pair]:
    """The pairs of all shards, in order. Raises TrainingError naming shard and sample, MissingExtra.

    The headers are read, and the texts; samples are grouped as the webdataset library groups them.
    """
    expand, group = _webdataset()
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
    else:  # a file may have braces in its own name
        shards = [path] if path.exists() else [Path(each) for each in expand(str(path))]
    pairs = []
    for shard in shards:
        try:
            pairs += [_pair(sample, shard) for sample in group(_members(shard)) if _is_ours(sample)]
        except (tarfile.TarError, OSError) as error:
            way_out = "; unpack it first: an offset needs a plain tar" if shard.suffix in (".gz", ".tgz") else ""
            raise TrainingError(f"cannot read the shard {shard}: {error}{way_out}") from error
        except ValueError as error:  # webdataset's own: a file name that is there twice
            raise TrainingError(f"{shard} is no shard: {error.args[0]}") from error
    if not pairs:
        raise TrainingError(f"{path} holds no pairs: a sample is NAME.jpg (or .png ...) with NAME.txt or NAME.json")
    return pairs


def _webdataset() -> tuple[Callable[[str], list[str]], Callable[[Iterable[dict[str, Any]]], Iterator[dict[str, Any]]]]:
    try:
        from webdataset.shardlists import expand_urls
        from webdataset.tariterators import group_by_keys
    except ImportError as error:
        raise MissingExtra("webdataset", "train", "reading WebDataset shards") from error
    return expand_urls, group_by_keys


def _members(shard: Path) -> Iterator[dict[str, Any]]:
    """The files of a shard as webdataset's tar_file_iterator gives them, but a place instead of an image's bytes."""
    with tarfile.open(shard, "r:") as tar:
        while (member := tar.next()) is not None:
            suffix = member.name.rpartition(".")[2].lower()
            # Names of the form __key__ are metadata by webdataset's rule.
            if member.isreg() and suffix in _IMAGES | _TEXTS and not Path(member.name).parts[0].startswith("__"):
                data: TarImage | bytes = TarImage(str(shard), member.offset_data, member.size, member.name)
                if suffix in _TEXTS:
                    file = tar.extractfile(member)
                    data = file.read() if file is not None else b""
                yield {"fname": member.name, "data": data, "__url__": str(shard)}
            tar.members.clear()  # type: ignore[attr-defined]  # an attribute of all versions: the headers seen, all kept


def _is_ours(sample: dict[str, Any]) -> bool:
    return any(not key.startswith("__") for key in sample)


def _pair(sample: dict[str, Any], shard: Path) -> Pair:
    where = f"{shard} sample {sample['__key__']!r}"
    images = [value for value in sample.values() if isinstance(value, TarImage)]
    texts = [
        text
        for suffix, data in sample.items()
        if isinstance(data, bytes)
        for text in _texts(data, suffix, f"{where} .{suffix}")
    ]
    if len(images) != 1:
        raise TrainingError(
            f"{where} has {len(images)} images{''.join(f', {image.name}' for image in images)}, and needs one: the "
            "name of a sample is all before the first dot, and its files follow one another in the tar"
        )
    # A .json often repeats the .txt beside it.
    return Pair(images[0], clean_captions(list(dict.fromkeys(texts)), where))


def _texts(data: bytes, suffix: str, where: str) -> list[str]:
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text) if suffix.endswith("json") else text
    except ValueError as error:
        raise TrainingError(f"{where} is not {'JSON' if suffix.endswith('json') else 'UTF-8'}: {error}") from error
    if isinstance(value, dict):
        key = field_of(value, CAPTION_FIELDS)
        value = value[key] if key is not None else []
    texts = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(each, str) for each in texts):
        raise TrainingError(f"{where} holds captions that are no texts: {value!r:.80}")
    return [each.strip() for each in texts]
