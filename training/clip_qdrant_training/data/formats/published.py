"""The files that well-known data sets come in: Flickr8k and Flickr30k tokens, Karpathy's JSON, COCO captions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clip_qdrant.errors import TrainingError
from clip_qdrant_training.data.formats.entries import CaptionEntry
from clip_qdrant_training.data.pairs import clean_captions

__all__ = ["coco_folders", "is_coco", "is_karpathy", "is_token_line", "read_coco", "read_karpathy", "read_tokens"]

_TOKEN_LINE = re.compile(r"(?P<name>.+)#\d+\t(?P<caption>.*)")


def is_token_line(line: str) -> bool:
    """Whether a line is `NAME.jpg#0<tab>A caption .`"""
    return _TOKEN_LINE.match(line) is not None


def read_tokens(lines: Iterable[str], path: Path) -> Iterator[CaptionEntry]:
    """Entries of Flickr8k.token.txt and results_20130124.token. Raises TrainingError naming the line."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _TOKEN_LINE.match(line)
        if match is None:
            raise TrainingError(f"{path} line {number} is not NAME#NUMBER, a tab and a caption: {line.strip():.80}")
        found.setdefault(match["name"], []).append(match["caption"])
    for name, captions in found.items():
        yield CaptionEntry(name, clean_captions(captions, f"{path}: {name!r}"))


def is_karpathy(value: Any) -> bool:
    """Whether JSON is a split file of Karpathy and Fei-Fei 2015, such as dataset_flickr8k.json."""
    images = value.get("images") if isinstance(value, dict) else None
    return isinstance(images, list) and bool(images) and isinstance(images[0], dict) and "sentences" in images[0]


def read_karpathy(value: Mapping[str, Any], path: Path) -> Iterator[CaptionEntry]:
    """Entries with their splits. Raises TrainingError naming the image."""
    for number, image in enumerate(value["images"]):
        where = f"{path}: images[{number}]"
        try:
            name, split = str(image["filename"]), str(image["split"])
            captions = [sentence["raw"] for sentence in image["sentences"]]
        except (KeyError, TypeError) as error:
            raise TrainingError(f"{where} needs filename, split and sentences[].raw: {image!s:.80}") from error
        folder = image.get("filepath")  # COCO's has train2014 or val2014 there
        yield CaptionEntry(f"{folder}/{name}" if folder else name, clean_captions(captions, f"{where} {name!r}"), split)


def is_coco(value: Any) -> bool:
    """Whether JSON is made as COCO's annotations are: a list of images and one of annotations."""
    return isinstance(value, dict) and all(isinstance(value.get(key), list) for key in ("images", "annotations"))


def read_coco(value: Mapping[str, Any], path: Path) -> Iterator[CaptionEntry]:
    """Entries in the order of the images. Raises TrainingError naming the image or the annotation."""
    names: dict[Any, str] = {}
    for number, image in enumerate(value["images"]):
        try:
            names[image["id"]] = str(image["file_name"])
        except (KeyError, TypeError) as error:
            raise TrainingError(f"{path}: images[{number}] needs id and file_name: {image!s:.80}") from error
    captions: dict[Any, list[Any]] = {identity: [] for identity in names}
    for number, annotation in enumerate(value["annotations"]):
        where = f"{path}: annotations[{number}]"
        try:
            captions[annotation["image_id"]].append(annotation["caption"])
        except (KeyError, TypeError) as error:
            if isinstance(annotation, dict) and "image_id" in annotation and "caption" in annotation:
                raise TrainingError(f"{where} is of image {annotation['image_id']!r}, not among the images") from error
            raise TrainingError(
                f"{where} needs image_id and caption (captions_*.json has them): {annotation!s:.80}"
            ) from error
    for identity, name in names.items():
        yield CaptionEntry(name, clean_captions(captions[identity], f"{path}: image {identity!r} {name!r}"))


def coco_folders(path: Path) -> tuple[str, ...]:
    """Where the images of annotations/captions_train2017.json lie as a rule, relative to the folder of the file."""
    name = path.stem.partition("_")[2] or path.stem
    return (name, f"images/{name}", f"../{name}", f"../images/{name}", f"../{name}/{name}")
