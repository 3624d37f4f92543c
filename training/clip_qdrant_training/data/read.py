"""Image-caption pairs from files, whose format is found by itself, or from Python objects.

`formats` has a module for each kind of file, `pairs` what one pair is, `mixture` several sets in one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from clip_qdrant.errors import ConfigError, SourceError, TrainingError
from clip_qdrant.tables.columns import CAPTION_COLUMNS, FILE_COLUMNS
from clip_qdrant.tables.delimited import read_csv
from clip_qdrant.tables.encodings import open_utf8
from clip_qdrant.tables.parquet import read_parquet
from clip_qdrant.tables.rows import read_json_lines, read_objects
from clip_qdrant.tables.suffixes import table_format
from clip_qdrant_training.data.formats import caption_tables, published
from clip_qdrant_training.data.formats.arrow import ArrowImage, is_dataset_folder, read_dataset_folder
from clip_qdrant_training.data.formats.entries import CaptionEntry, to_pairs
from clip_qdrant_training.data.formats.webdataset import TarImage, names_archives, read_archives
from clip_qdrant_training.data.mixture import Mixture, Part
from clip_qdrant_training.data.pairs import (
    LazyImage,
    Pair,
    caption_key,
    clean_captions,
    image_input,
    image_name,
    pair_keys,
)

__all__ = [
    "ArrowImage",
    "LazyImage",
    "Mixture",
    "Pair",
    "Part",
    "TarImage",
    "as_pairs",
    "caption_key",
    "image_input",
    "image_name",
    "pair_keys",
    "read_pairs",
]

# What stands for a folder that holds it, by the names that these data sets are handed out with.
_CAPTION_FILES = (
    "captions.csv",
    "captions.tsv",
    "captions.jsonl",
    "captions.txt",
    "metadata.csv",
    "metadata.jsonl",
    "Flickr8k.token.txt",
    "results_20130124.token",
    "results.csv",
    "dataset_flickr8k.json",
    "dataset_flickr30k.json",
    "dataset_coco.json",
)
_LOOKED_FOR = (
    "looked for JSON lines or a JSON list of objects, a CSV or TSV header, each with an image "
    f"({', '.join(FILE_COLUMNS)}) and captions ({', '.join(CAPTION_COLUMNS)}); lines NAME.jpg#0, a tab and a caption; "
    "and the JSON of COCO or of Karpathy's splits"
)


def read_pairs(path: str | Path, *, images: str | Path | None = None, split: str | None = None) -> list[Pair]:
    """The pairs of a captions file, of WebDataset archives or of a saved Hugging Face data set; docs/training-data.md.

    The format is found from the content. `images` is the folder of the image files; without it they are looked for
    around the captions file. `split` takes a part: a split that the data names, several as in "train+val", "all", or
    a file that lists image names. Raises TrainingError naming file and line, ConfigError, MissingExtra.
    """
    path = Path(path)
    if is_dataset_folder(path) or names_archives(path):
        if images is not None:
            raise ConfigError(f"{path} holds its images itself: leave out images={str(images)!r}")
        if is_dataset_folder(path):
            return read_dataset_folder(path, split)
        if split is not None:
            raise ConfigError(f"shards have no splits: instead of split={split!r} give those of {path} that are in it")
        return read_archives(path)
    if path.is_dir():
        path = _captions_file(path)
    try:
        entries, near = _read_entries(path)
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read the pairs in {path}: {error}") from error
    if not entries:
        raise TrainingError(f"{path} holds no pairs: {_LOOKED_FOR}")
    return to_pairs(entries, path, images=images, split=split, near=near)


def as_pairs(pairs: str | Path | Iterable[Any]) -> list[Pair]:
    """Pairs from a path that read_pairs takes, or an iterable of Pair, (image, caption or captions) or mappings."""
    if isinstance(pairs, (str, Path)):
        return read_pairs(pairs)
    made = [_from_object(item, number) for number, item in enumerate(pairs)]
    if not made:
        raise TrainingError("there are no pairs to train on")
    return made


def _captions_file(folder: Path) -> Path:
    found = [folder / name for name in _CAPTION_FILES if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise TrainingError(f"{folder} holds {' and '.join(file.name for file in found)}: give the path of one")
    raise TrainingError(
        f"{folder} holds no pairs: looked for *.tar shards, a data set that save_to_disk wrote, and one of "
        f"{', '.join(_CAPTION_FILES)}. Give the path of the captions file"
    )


def _read_entries(path: Path) -> tuple[list[CaptionEntry], tuple[str, ...]]:
    """The entries of a captions file and the folders in which its kind has its images."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        try:
            with path.open("rb") as file:
                value = json.loads(open_utf8(file).read().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise
        except RecursionError as error:
            raise TrainingError(f"{path} nests too deep to be read as JSON") from error
        except ValueError as error:
            if not str(error).startswith("Extra data"):  # else JSON lines under another name
                raise TrainingError(f"{path} is not JSON: {error}") from error
        else:
            return _from_json(value, path)
    if table_format(path.name) == "parquet":
        with path.open("rb") as file:
            try:
                return list(caption_tables.object_entries(read_parquet(file), path)), ()
            except SourceError as error:
                raise TrainingError(f"cannot read the pairs in {path}: {error}") from error
    with path.open("rb") as file:
        first = _first_line(open_utf8(file))
        file.seek(0)
        if suffix == ".json" or table_format(path.name) == "jsonl" or first.lstrip().startswith("{"):
            return list(caption_tables.object_entries(read_json_lines(file), path)), ()
        if published.is_token_line(first):
            lines = io.TextIOWrapper(open_utf8(file), encoding="utf-8-sig", newline="")
            return list(published.read_tokens(lines, path)), ()
        try:
            table = read_csv(file, table_format(path.name) or "csv", fits=caption_tables.names_pairs)
        except SourceError as error:
            raise TrainingError(f"{path} is no table, {error}: {_LOOKED_FOR}") from error
        if caption_tables.names_pairs(table.columns or ()):
            return list(caption_tables.table_entries(table, path)), ()
    if not first:
        return [], ()
    raise TrainingError(f"{path} is in no known format, its first line is {first.strip()!r:.80}: {_LOOKED_FOR}")


def _first_line(file: IO[bytes]) -> str:
    """The first line that is not empty."""
    for number, line in enumerate(file):
        text = line.decode("utf-8" if number else "utf-8-sig")
        if text.strip():
            return text
    return ""


def _from_json(value: Any, path: Path) -> tuple[list[CaptionEntry], tuple[str, ...]]:
    if isinstance(value, list):
        return list(caption_tables.object_entries(read_objects(value), path)), ()
    if published.is_karpathy(value):
        return list(published.read_karpathy(value, path)), ()
    if published.is_coco(value):
        return list(published.read_coco(value, path)), published.coco_folders(path)
    if isinstance(value, dict) and "image" in value:  # JSON lines, of which there is one
        return list(caption_tables.object_entries(read_objects([value]), path)), ()
    keys = f"an object with the keys {', '.join(list(value)[:8])}" if isinstance(value, dict) else f"{value!r:.80}"
    raise TrainingError(f"{path} is in no known format, it holds {keys}: {_LOOKED_FOR}")


def _from_object(item: Any, number: int) -> Pair:
    where = f"pair {number}"
    if isinstance(item, Pair):
        return Pair(item.image, clean_captions(item.captions, where))
    if isinstance(item, Mapping):
        if "image" not in item:
            raise TrainingError(f"{where} has no image: {item!s:.80}")
        return Pair(item["image"], clean_captions(item.get("captions", item.get("caption")), where))
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return Pair(item[0], clean_captions(item[1], where))
    raise TrainingError(f"{where} is a {type(item).__name__}: give (image, caption) tuples, mappings or Pair")
