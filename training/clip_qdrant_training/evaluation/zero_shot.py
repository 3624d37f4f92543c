"""Zero-shot classification: an image belongs to the class whose description lies nearest (Radford et al. 2021, 3.1)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.images.suffixes import IMAGE_SUFFIXES
from clip_qdrant.tables.rows import read_json_lines
from clip_qdrant_training.data.formats.caption_tables import read_rows
from clip_qdrant_training.data.read import image_input
from clip_qdrant_training.evaluation.recall import TIE

__all__ = ["PROMPTS", "Labelled", "class_vectors", "read_labelled", "zero_shot"]

PROMPTS = (
    "a photo of a {}.",
    "a picture of a {}.",
    "an image of the {}.",
    "a close-up photo of a {}.",
    "a bad photo of a {}.",
    "a photo of a large {}.",
    "a photo of a small {}.",
    "a photo of many {}.",
    "a black and white photo of a {}.",
    "a drawing of a {}.",
)
KS = (1, 5)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One image and the class it belongs to."""

    image: Any  # anything clip_qdrant.images.load.load_image takes
    label: str


def read_labelled(path: str | Path) -> list[Labelled]:
    """Labelled images: a folder with a folder of images for each class, or JSON lines `{"image": path, "label": name}`.

    Paths in a file count from its folder. Raises TrainingError naming the line or the folder.
    """
    path = Path(path)
    found = list(_from_folder(path) if path.is_dir() else _from_lines(path))
    if not found:
        wanted = (
            "a folder of images for each class" if path.is_dir() else "one JSON object a line, with image and label"
        )
        raise TrainingError(f"{path} holds no labelled images: {wanted}")
    return found


def zero_shot(
    embedder: Embedder,
    labelled: Iterable[Labelled],
    *,
    class_names: Mapping[str, str] | None = None,
    templates: Sequence[str] = PROMPTS,
) -> dict[str, float]:
    """The share of images, in percent, whose class is nearest or among the five nearest: "accuracy@1", "accuracy@5".

    `class_names` says what a label is called in a prompt, and may name classes that no image belongs to; without it a
    label is its own name, "_" read as a space. A tie counts against. Raises ConfigError, TrainingError, ImageError.
    """
    labelled = list(labelled)
    names = dict(class_names or {item.label: item.label.replace("_", " ") for item in labelled})
    unnamed = sorted({item.label for item in labelled} - set(names))
    if unnamed:
        raise ConfigError(f"class_names lacks the label {unnamed[0]!r}: name all {len(unnamed)} that are missing")
    if len(names) < 2:
        raise TrainingError(f"there is nothing to choose between: the only class is {', '.join(names) or 'none'}")
    labels = list(names)
    classes = class_vectors(embedder, [names[label] for label in labels], templates)
    images = embedder.embed_images(image_input(item.image) for item in labelled)
    if not np.isfinite(images).all():
        raise TrainingError("the vectors hold values that are no numbers: there is nothing to rank")
    number = {label: row for row, label in enumerate(labels)}
    scores = images @ classes.T  # (images, classes)
    own = scores[np.arange(len(labelled)), [number[item.label] for item in labelled]]
    rank = (scores >= own[:, None] - TIE).sum(1)
    return {f"accuracy@{k}": float(100 * np.mean(rank <= k)) for k in KS}


def class_vectors(embedder: Embedder, names: Sequence[str], templates: Sequence[str] = PROMPTS) -> np.ndarray:
    """One unit row a class, float32 (classes, dim): the mean of its prompts' rows, of length 1 again (Radford 3.1.4).

    Each template has one `{}` for the name.
    """
    if not templates:
        raise ConfigError("templates is empty: give one at least, such as 'a photo of a {}.'")
    for template in templates:
        if template.count("{}") != 1:
            raise ConfigError(f"the template {template!r} needs one {{}} where the name of the class goes")
    texts = [template.replace("{}", name) for name in names for template in templates]
    means = embedder.embed_texts(texts).reshape(len(names), len(templates), -1).mean(axis=1)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise TrainingError("the vectors of the classes hold values that are no numbers, or cancel out")
    return np.asarray(means / lengths, dtype=np.float32)


def _from_folder(folder: Path) -> Iterable[Labelled]:
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        for parent, folders, files in os.walk(entry):
            folders.sort()
            for name in sorted(files):
                if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    yield Labelled(Path(parent, name), entry.name)


def _from_lines(path: Path) -> Iterable[Labelled]:
    try:
        with path.open("rb") as file:
            for row in read_rows(read_json_lines(file), path):
                for key in ("image", "label"):
                    value = row.fields.get(key)
                    if not isinstance(value, str) or not value.strip():
                        raise TrainingError(f"{path} {row.place} has no {key}: {row.fields!s:.80}")
                yield Labelled(path.parent / row.fields["image"], row.fields["label"].strip())
    except OSError as error:
        raise TrainingError(f"cannot read the labelled images in {path}: {error}") from error
