"""Retrieval both ways by the usual protocol of Flickr8k, Flickr30k and COCO, with the uncertainty of its figures.

The protocol: n images form one gallery, each with several captions (five in those data sets). Text to image, every
caption is a query by itself and has one right answer among the n images: 5n queries. Image to text, every image is a
query among all captions and counts by the best-ranked of its own: n queries with five right answers each, which is why
this direction scores higher. Nothing is averaged or joined before ranking (Karpathy and Fei-Fei 2015, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training.data.read import Pair, as_pairs, image_input

__all__ = ["Ranks", "bootstrap", "embed_pairs", "evaluate", "measures", "owners", "ranks", "recall"]

KS = (1, 5, 10)
TIE = 1e-6  # scores of equal vectors differ in their last bits, by where they stand in a matrix product
_ROWS = 1024
_CELLS = 1 << 23  # of the largest array of a bootstrap: 64 MB
_LEVELS = (2.5, 97.5)  # percentiles: a 95 % interval


@dataclass(frozen=True)
class Ranks:
    """Where each query finds what belongs to it: 1 is the best rank. A tie counts against."""

    text_to_image: np.ndarray  # (captions,), int64: the rank of each caption's own image among all images
    image_to_text: np.ndarray  # (images,), int64: the rank of each image's best own caption among all others' captions


def ranks(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> Ranks:
    """Ranks of unit rows `images` (n, dim) and `texts` (m, dim); text j belongs to image owner[j].

    Raises TrainingError for values that are no numbers.
    """
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        raise TrainingError("the vectors hold values that are no numbers: there is nothing to rank")
    text_ranks = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _ROWS):
        mine = owner[start : start + _ROWS]
        scores = texts[start : start + _ROWS] @ images.T  # (rows, n)
        own = scores[np.arange(len(mine)), mine]
        text_ranks[start : start + _ROWS] = (scores >= own[:, None] - TIE).sum(1)
    image_ranks = np.empty(len(images), dtype=np.int64)
    for start in range(0, len(images), _ROWS):
        rows = slice(start, start + _ROWS)
        scores = images[rows] @ texts.T  # (rows, m)
        foreign = owner[None, :] != np.arange(len(images))[rows, None]
        best = np.where(foreign, -np.inf, scores).max(axis=1)  # each image's best own caption
        image_ranks[rows] = ((scores >= best[:, None] - TIE) & foreign).sum(1) + 1
    return Ranks(text_ranks, image_ranks)


def measures(ranks: Ranks) -> dict[str, float]:
    """recall@1/5/10 in percent, the median rank, and the mean reciprocal rank (0 to 1), both ways.

    Keys are like "text_to_image_recall@1", "text_to_image_median_rank" and "text_to_image_mrr".
    """
    found = _recall(ranks)
    for name, way in _ways(ranks):
        found[f"{name}_median_rank"] = float(np.median(way))
        found[f"{name}_mrr"] = float(np.mean(1 / way))
    return found


def recall(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """recall@1/5/10 in percent of unit rows `images` (n, dim) and `texts` (m, dim); text j belongs to image owner[j].

    Text to image ranks each caption's own image among all; image to text counts the best-ranked of its captions.
    Keys are like "text_to_image_recall@1". A tie counts against. Raises TrainingError for values that are no numbers.
    """
    return _recall(ranks(images, texts, owner))


def evaluate(embedder: Embedder, pairs: str | Path | list[Pair] | Any) -> dict[str, float]:
    """Recall of an embedder on pairs (a path, or what `as_pairs` takes). Raises TrainingError, ImageError."""
    pairs = as_pairs(pairs)
    return recall(*embed_pairs(embedder, pairs), owners(pairs))


def embed_pairs(embedder: Embedder, pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of the images (n, dim) and of all captions in order (m, dim), float32."""
    images = embedder.embed_images(image_input(pair.image) for pair in pairs)
    return images, embedder.embed_texts(caption for pair in pairs for caption in pair.captions)


def owners(pairs: list[Pair]) -> np.ndarray:
    """For each caption in order the index of its image: int64 (captions,)."""
    return np.repeat(np.arange(len(pairs)), [len(pair.captions) for pair in pairs])


def bootstrap(
    ranks: Ranks, owner: np.ndarray, *, samples: int = 1000, seed: int = 0
) -> Mapping[str, tuple[float, float]]:
    """95 % percentile intervals (Efron and Tibshirani 1993, chapter 13) of each of `measures`, by its key.

    Images are drawn with replacement and bring all their captions, because captions of one image are not independent.
    The ranks stay those in the whole gallery: the intervals say how far the choice of queries moves a figure, and a
    larger gallery would still lower all of them. Equal seeds draw equal images, so models are compared like with like.
    """
    if samples < 2:
        raise ConfigError(f"samples is {samples}: an interval needs at least 2, and 1000 is usual")
    n = len(ranks.image_to_text)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[np.ndarray]] = {}
    step = max(1, _CELLS // max(len(ranks.text_to_image), n))
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        picks = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        for name, values in _resample(ranks, owner, times):
            drawn.setdefault(name, []).append(values)
    intervals = {name: np.percentile(np.concatenate(parts), _LEVELS) for name, parts in drawn.items()}
    return {name: (float(low), float(high)) for name, (low, high) in intervals.items()}


def _recall(ranks: Ranks) -> dict[str, float]:
    return {f"{name}_recall@{k}": float(100 * np.mean(way <= k)) for name, way in _ways(ranks) for k in KS}


def _ways(ranks: Ranks) -> tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]:
    return ("text_to_image", ranks.text_to_image), ("image_to_text", ranks.image_to_text)


def _resample(ranks: Ranks, owner: np.ndarray, times: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    """Each measure (samples,) where image i was drawn times[s, i] times in sample s."""
    n = times.shape[1]
    for (name, way), query_owner in zip(_ways(ranks), (owner, np.arange(n)), strict=True):
        queries = times @ np.bincount(query_owner, minlength=n)
        for k in KS:
            hits = np.bincount(query_owner, weights=way <= k, minlength=n)
            yield f"{name}_recall@{k}", 100 * (times @ hits) / queries
        yield f"{name}_mrr", times @ np.bincount(query_owner, weights=1 / way, minlength=n) / queries
        order = np.argsort(way)
        reached = np.cumsum(
            times[:, query_owner[order]], axis=1
        )  # (samples, queries): how many rank this well or better
        lower, upper = (
            way[order][(reached <= middle[:, None]).sum(1)] for middle in ((queries - 1) // 2, queries // 2)
        )
        yield f"{name}_median_rank", (lower + upper) / 2
