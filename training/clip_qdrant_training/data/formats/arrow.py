"""A folder that the `datasets` library of Hugging Face saved with save_to_disk. Nothing is downloaded."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_qdrant.errors import MissingExtra, SourceError, TrainingError
from clip_qdrant.tables.columns import CAPTION_COLUMNS, FILE_COLUMNS, find_column
from clip_qdrant_training.data.formats.entries import pick_splits
from clip_qdrant_training.data.pairs import Pair, clean_captions

__all__ = ["ArrowImage", "is_dataset_folder", "read_dataset_folder"]

_SPLITS, _INFO = "dataset_dict.json", "dataset_info.json"
_ROWS_A_READ = 1000
_RAW = ("raw", "caption", "text", "sentence")  # where the text is, in a column of objects


@dataclass(frozen=True, slots=True)
class ArrowImage:
    """An image in a row of a saved data set, read from the memory-mapped file."""

    folder: str
    column: str
    row: int

    def read(self) -> bytes:
        """The bytes of the image file. Raises SourceError."""
        try:
            value = _column(self.folder, self.column)[self.row : self.row + 1].column(0)[0].as_py()
            if isinstance(value, dict):  # the Image feature: bytes, or the path of a file that was not taken in
                value = value.get("bytes") or (Path(self.folder) / value["path"]).read_bytes()
        except (OSError, KeyError, TypeError, ValueError, IndexError, TrainingError) as error:
            raise SourceError(f"cannot read {self}: {error}") from error
        if not isinstance(value, bytes):
            raise SourceError(f"cannot read {self}: the cell holds no image but {value!r:.40}")
        return value

    def __str__(self) -> str:
        return f"{self.folder} row {self.row}"


def is_dataset_folder(path: Path) -> bool:
    """Whether `save_to_disk` made this folder."""
    return (path / _SPLITS).is_file() or (path / _INFO).is_file()


def read_dataset_folder(path: Path, split: str | None) -> list[Pair]:
    """The pairs of a Dataset, or of the named splits of a DatasetDict. Raises TrainingError and MissingExtra."""
    _dataset.cache_clear()  # the folder may have been saved anew
    _column.cache_clear()
    if not (path / _SPLITS).is_file():
        if split not in (None, "all"):
            raise TrainingError(f"{path} is one Dataset without splits: give no split, or save a DatasetDict")
        return list(_pairs(path))
    try:
        names = [str(name) for name in json.loads((path / _SPLITS).read_text(encoding="utf-8"))["splits"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path / _SPLITS} does not list the splits: {error!r}; save the data set again") from error
    sizes = {name: len(_dataset(str(path / name))) for name in names}
    return [pair for name in pick_splits(sizes, split, str(path)) for pair in _pairs(path / name)]


def _pairs(folder: Path) -> Iterator[Pair]:
    dataset = _dataset(str(folder))
    images, texts = (find_column(dataset.column_names, wanted) for wanted in (FILE_COLUMNS, CAPTION_COLUMNS))
    if images is None or texts is None:
        raise TrainingError(
            f"{folder} has the columns {', '.join(dataset.column_names)}, and needs an image, one of "
            f"{', '.join(FILE_COLUMNS)}, and captions, one of {', '.join(CAPTION_COLUMNS)}: rename_column does it"
        )
    kind = str(dataset.features.arrow_schema.field(images).type)
    if not kind.startswith(("struct", "binary", "large_binary", "string", "large_string")):
        raise TrainingError(f"{folder}: the column {images!r} is {kind}, and needs to be an Image, bytes or a path")
    paths = _cells(folder, images) if "string" in kind.partition("<")[0] else None
    for row, captions in enumerate(_cells(folder, texts)):
        image = ArrowImage(str(folder), images, row) if paths is None else folder / str(next(paths))
        yield Pair(image, clean_captions(_raw(captions), f"{folder} row {row}"))


def _cells(folder: Path, column: str) -> Iterator[Any]:
    dataset = _column(str(folder), column)
    for start in range(0, len(dataset), _ROWS_A_READ):
        yield from dataset[start : start + _ROWS_A_READ].column(0).to_pylist()


def _raw(captions: Any) -> Any:
    """Texts as they are; of objects, as in the sentences of Karpathy's splits, the text in each."""
    if not isinstance(captions, list):
        return captions
    return [
        next((each[name] for name in _RAW if name in each), each) if isinstance(each, dict) else each
        for each in captions
    ]


@functools.lru_cache(maxsize=16)
def _dataset(folder: str) -> Any:
    try:
        from datasets import Dataset
    except ImportError as error:
        raise MissingExtra("datasets", "train", "reading a Hugging Face data set") from error
    try:
        return Dataset.load_from_disk(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{folder} is no data set that save_to_disk wrote whole: {error}") from error


@functools.lru_cache(maxsize=16)
def _column(folder: str, name: str) -> Any:
    # As Arrow: the library's own format would decode every image to a PIL image.
    return _dataset(folder).select_columns([name]).with_format("arrow")
