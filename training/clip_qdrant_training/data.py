"""Image-caption pairs: JSON lines `{"image": path, "captions": [...]}`, or Python objects of the same shape."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_qdrant.errors import TrainingError

__all__ = ["Pair", "as_pairs", "read_pairs"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One image with the captions that describe it. At least one caption."""

    image: Any  # anything clip_qdrant.images.load_image takes
    captions: tuple[str, ...]


def read_pairs(path: str | Path) -> list[Pair]:
    """Pairs of a JSONL file; image paths are relative to the file's folder. Raises TrainingError naming the line.

    A line has `image` and `captions` (a list) or `caption` (one text).
    """
    path = Path(path)
    pairs = []
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    pairs.append(_from_line(line, path, number))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read the pairs in {path}: {error}") from error
    if not pairs:
        raise TrainingError(f"{path} holds no pairs: one JSON object a line, with image and captions")
    return pairs


def as_pairs(pairs: str | Path | Iterable[Any]) -> list[Pair]:
    """Pairs from a JSONL path, or from an iterable of Pair, (image, caption or captions) or mappings of that shape."""
    if isinstance(pairs, (str, Path)):
        return read_pairs(pairs)
    made = [_from_object(item, number) for number, item in enumerate(pairs)]
    if not made:
        raise TrainingError("there are no pairs to train on")
    return made


def _from_line(line: str, path: Path, number: int) -> Pair:
    where = f"{path} line {number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise TrainingError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("image"), str):
        raise TrainingError(f"{where} has no image: {line.strip():.80}")
    return Pair(path.parent / row["image"], _captions(row.get("captions", row.get("caption")), where))


def _from_object(item: Any, number: int) -> Pair:
    where = f"pair {number}"
    if isinstance(item, Pair):
        return Pair(item.image, _captions(item.captions, where))
    if isinstance(item, Mapping):
        if "image" not in item:
            raise TrainingError(f"{where} has no image: {item!s:.80}")
        return Pair(item["image"], _captions(item.get("captions", item.get("caption")), where))
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return Pair(item[0], _captions(item[1], where))
    raise TrainingError(f"{where} is a {type(item).__name__}: give (image, caption) tuples, mappings or Pair")


def _captions(value: Any, where: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
    captions = tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
    if not captions or not all(isinstance(text, str) for text in texts):
        raise TrainingError(f"{where} needs captions, one text or a list of texts, not {value!r:.80}")
    return captions
