"""Retrieval recall both ways, by the usual protocol of Flickr8k and COCO: several captions an image, one gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from clip_qdrant.embedder import Embedder
from clip_qdrant.errors import TrainingError
from clip_qdrant_training.data import Pair, as_pairs

__all__ = ["evaluate", "recall"]

KS = (1, 5, 10)
_ROWS = 1024
_TIE = 1e-6  # scores of equal vectors differ in their last bits, by where they stand in a matrix product


def recall(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """recall@1/5/10 in percent of unit rows `images` (n, dim) and `texts` (m, dim); text j belongs to image owner[j].

    Text to image ranks each caption's own image among all; image to text counts the best-ranked of its captions.
    Keys are like "text_to_image_recall@1". A tie counts against. Raises TrainingError for values that are no numbers.
    """
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        raise TrainingError("the vectors hold values that are no numbers: there is nothing to rank")
    text_ranks = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _ROWS):
        mine = owner[start : start + _ROWS]
        scores = texts[start : start + _ROWS] @ images.T  # (rows, n)
        own = scores[np.arange(len(mine)), mine]
        text_ranks[start : start + _ROWS] = (scores >= own[:, None] - _TIE).sum(1) - 1
    image_ranks = np.empty(len(images), dtype=np.int64)
    for start in range(0, len(images), _ROWS):
        rows = slice(start, start + _ROWS)
        scores = images[rows] @ texts.T  # (rows, m)
        foreign = owner[None, :] != np.arange(len(images))[rows, None]
        best = np.where(foreign, -np.inf, scores).max(axis=1)  # each image's best own caption
        image_ranks[rows] = ((scores >= best[:, None] - _TIE) & foreign).sum(1)
    return {
        f"{name}_recall@{k}": float(100 * np.mean(ranks < k))
        for name, ranks in (("text_to_image", text_ranks), ("image_to_text", image_ranks))
        for k in KS
    }


def evaluate(embedder: Embedder, pairs: str | Path | list[Pair] | Any) -> dict[str, float]:
    """Recall of an embedder on pairs (a JSONL path, or what `as_pairs` takes). Raises TrainingError, ImageError."""
    pairs = as_pairs(pairs)
    images = embedder.embed_images(pair.image for pair in pairs)
    texts = embedder.embed_texts(caption for pair in pairs for caption in pair.captions)
    return recall(images, texts, owners(pairs))


def owners(pairs: list[Pair]) -> np.ndarray:
    """For each caption in order the index of its image: int64 (captions,)."""
    return np.repeat(np.arange(len(pairs)), [len(pair.captions) for pair in pairs])
