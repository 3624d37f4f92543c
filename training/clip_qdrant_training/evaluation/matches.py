"""The images a model finds for a text, as a look at what it has learned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant_training.data.read import Pair, as_pairs, image_input, pair_keys

__all__ = ["Match", "find_matches"]


@dataclass(frozen=True, slots=True)
class Match:
    """An image found for a text; `score` is the cosine similarity, `captions` what the data says of the image."""

    image: Any  # as it was given
    score: float
    captions: tuple[str, ...]


def find_matches(
    embedder: Embedder,
    pairs: str | Path | Iterable[Any],
    query: str,
    *,
    n: int = 9,
    vectors: np.ndarray | None = None,
) -> list[Match]:
    """The n images nearest to the query, best first, each image once, however many captions or rows it has.

    `pairs` is what `as_pairs` takes, or images without captions. `vectors` are the unit rows (rows, dim) of the images
    of `pairs` in order, to ask more than once without embedding again.
    """
    if n < 1:
        raise ConfigError(f"n is {n}: ask for one match at least")
    items = as_pairs(pairs) if isinstance(pairs, (str, Path)) else [_pair(item) for item in pairs]
    if not items:
        raise TrainingError("there are no images to look through")
    if vectors is not None and vectors.shape != (len(items), embedder.dim):
        raise ConfigError(f"vectors are {vectors.shape}, expected ({len(items)}, {embedder.dim}): one row an image")
    keys, first, group = np.unique(pair_keys(items), return_index=True, return_inverse=True)
    captions: list[dict[str, None]] = [{} for _ in keys]  # dicts keep the order and drop what is there already
    for item, number in zip(items, group, strict=True):
        captions[number].update(dict.fromkeys(item.captions))
    rows = embedder.embed_images(image_input(items[i].image) for i in first) if vectors is None else vectors[first]
    scores = rows @ embedder.embed_texts([query])[0]
    if not np.isfinite(scores).all():
        raise TrainingError("the vectors hold values that are no numbers: there is nothing to rank")
    best = np.argsort(-scores, kind="stable")[:n]
    return [Match(items[first[i]].image, float(scores[i]), tuple(captions[i])) for i in best]


def _pair(item: Any) -> Pair:
    """A row of `pairs`; an image by itself has no captions."""
    if isinstance(item, (Pair, Mapping)) or (isinstance(item, (tuple, list)) and len(item) == 2):
        return as_pairs([item])[0]
    return Pair(item, ())
