"""How captions stand to images: the rank and the margin of each caption, and how the similarities lie to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clip_qdrant_training.evaluation.judge import Judgement
from clip_qdrant_training.evaluation.recall import ranks

__all__ = ["BINS", "CaptionScores", "score_captions"]

BINS = np.linspace(-1, 1, 101)
_ROWS = 1024


@dataclass(frozen=True)
class CaptionScores:
    """How the captions stand to the images: what each chart and each choice of queries needs, in one pass."""

    rank: np.ndarray  # (captions,)
    margin: np.ndarray  # (captions,): score of the own image less that of the best other one
    matching: np.ndarray  # counts of the scores of captions with their own images, by BINS
    others: np.ndarray  # the same with all other images


def score_captions(judged: Judgement, owner: np.ndarray) -> CaptionScores:
    images, texts = judged.images, judged.texts
    margin = np.empty(len(texts))
    matching, others = np.zeros(len(BINS) - 1), np.zeros(len(BINS) - 1)
    for start in range(0, len(texts), _ROWS):
        rows = slice(start, start + _ROWS)
        scores = np.clip(texts[rows] @ images.T, -1, 1)  # (rows, n)
        place = np.arange(len(scores)), owner[rows]
        own = scores[place]
        matching += np.histogram(own, BINS)[0]
        others += np.histogram(scores, BINS)[0]
        scores[place] = -np.inf
        margin[rows] = own - scores.max(axis=1)
    return CaptionScores(ranks(images, texts, owner).text_to_image, margin, matching, others - matching)
