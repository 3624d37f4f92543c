"""How well models find objects by names that the training captions never use: prints a table.

    python training/recipes/objects.py DATA bundled runs/other/best.pt

Photographs and clip art of the dev splits in which the published ImageNet classifier is sure of a class (probability
above one half) are asked for by the class's name; only classes count none of whose names occur in a training caption.
The classifier is what bundled.py starts from, so this measures what a model has kept, not what it has learned. Beside
it: how many of all images of a sure class have its name as the nearest of ImageNet's 1,000, and the sample gallery,
asked for by its titles.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bundled import DATA, make_teacher
from timm.data import ImageNetInfo

from clip_qdrant import ClipEmbedder
from clip_qdrant.content import sample_gallery
from clip_qdrant.images.load import load_image
from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant_training import read_pairs
from clip_qdrant_training.data.read import Pair

SURE = 0.5
KS = (1, 5, 10)


def sure_images(folder: Path) -> list[tuple[Any, int]]:
    """Images of the dev splits with the one class that the classifier is sure of."""
    teacher = make_teacher()
    model: DualEncoder = teacher.model
    images = [pair.image for name in DATA for pair in read_pairs(folder / name / "dev.jsonl")]
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            part = images[start : start + 32]
            pixels = [teacher.preprocessing(load_image(image, target=240).rgb) for image in part]
            features = model.image_encoder(model.pixel_norm(torch.from_numpy(np.stack(pixels))))
            head: Any = model.image_projection
            sure, classes = head.classifier(features).softmax(-1).max(-1)
            found += [(i, int(c)) for i, p, c in zip(part, sure, classes, strict=True) if p > SURE]
    return found


def find_unnamed(classes: set[int], pairs: list[Pair]) -> set[int]:
    """The classes none of whose names occurs in a caption, in any number of its last word."""
    captions = "\n".join(caption.casefold() for pair in pairs for caption in pair.captions)
    info = ImageNetInfo()
    return {
        number
        for number in classes
        if not any(
            re.search(rf"\b{re.escape(name.strip().casefold())}(?:e?s)?\b", captions)
            for name in info.index_to_description(number).split(",")
        )
    }


def ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """For each query (row) how many wrong images are above its best right one."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return ((scores > best) & ~right).sum(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    found = sure_images(arguments.data)
    train = [pair for name in DATA for pair in read_pairs(arguments.data / name / "train.jsonl")]
    shown = {number for _, number in found}
    new = sorted(find_unnamed(shown, train))
    classes = np.array([number for _, number in found])
    info = ImageNetInfo()
    names = [f"a photo of a {info.index_to_description(number).split(',')[0]}" for number in range(1000)]
    right = np.array([[number == of for _, of in found] for number in new])
    gallery = [json.loads(line) for line in (sample_gallery() / "metadata.jsonl").read_text("utf-8").splitlines()]
    print(f"{len(found)} images of {len(shown)} classes, {len(new)} of them never named in training; recall@1/5/10")
    columns = f"class name -> image ({len(new)}) | class of 1,000 ({len(found)}) | gallery by title ({len(gallery)})"
    print(f"| model | {columns} |\n|---|---|---|---|")
    for model in arguments.models:
        clip = ClipEmbedder.load(model)
        scores = clip.embed_texts(names) @ clip.embed_images(image for image, _ in found).T  # (1000, images)
        by_name = ranks(scores[new], right)
        zero_shot = 100 * np.mean(scores.argmax(axis=0) == classes)
        rows = clip.embed_images(sample_gallery() / row["file_name"] for row in gallery)
        by_title = ranks(clip.embed_texts(row["caption"] for row in gallery) @ rows.T, np.eye(len(gallery), dtype=bool))
        cells = [" / ".join(f"{100 * np.mean(each < k):.1f}" for k in KS) for each in (by_name, by_title)]
        print(f"| {model} | {cells[0]} | {zero_shot:.1f} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
