"""Calibration: cosine similarity -> relevance, the share of random pairs of a query and an image that are less alike.

A cosine of 0.3 is a sure match in one model and noise in another, and images are more like each other than like texts.
Percentiles against random pairs compare across models, and texts with images. `cutoff` is the relevance that 95 % of
the images in the top 10 of their own caption have, moved a little towards what four of five texts about nothing that is
there do not reach; where there are no captions it is the latter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["LEVELS", "Calibration", "measure_calibration"]

# The percentiles kept; close together at the end, where all that matters is.
_BULK = (0.0, 0.01, *(round(0.05 * i, 2) for i in range(1, 20)))
LEVELS = (*_BULK, 0.975, 0.99, 0.995, 0.9975, 0.999, 0.9995, 0.9999, 1.0)
_LEVELS = np.array(LEVELS)
_KEPT = 0.95  # of true matches in the top 10
_EMPTY = 0.80  # of queries about what is not there
_LEAN = 0.15  # of the way from the one to the other
_TOP = 10
_FEWEST = 30  # images; of fewer the percentiles say nothing
_MOST, _MOST_TEXTS = 1000, 5000  # images and texts that are compared
_STEP = 1e-6  # between two levels of the same score


@dataclass(frozen=True, slots=True)
class Calibration:
    """The cosine similarity of random pairs at each of LEVELS, for texts with images and for images with images.

    That of texts is times their strength (see QueryVector).

    `cutoff` is the least relevance of a likely match, 0 to 1.
    """

    text: tuple[float, ...]
    image: tuple[float, ...]
    cutoff: float

    def __post_init__(self) -> None:
        for name, curve in (("text", self.text), ("image", self.image)):
            if len(curve) != len(LEVELS) or not np.isfinite(curve).all() or (np.diff(curve) < 0).any():
                raise ValueError(f"the {name} curve of a calibration must be {len(LEVELS)} numbers that do not fall")
        if not 0 <= self.cutoff <= 1:
            raise ValueError(f"the cutoff of a calibration is {self.cutoff!r}: it must be from 0 to 1")

    def relevance(self, score: float, *, text: float = 1.0) -> float:
        """The relevance, 0 to 1, of a cosine similarity; `text` is the share of texts in the query, 0 to 1."""
        return float(np.interp(score, self.curve(text), _LEVELS))

    def score(self, relevance: float, *, text: float = 1.0) -> float:
        """The least cosine similarity of a relevance above 0; -1 for 0, which leaves nothing out."""
        return -1.0 if relevance <= 0 else float(np.interp(relevance, _LEVELS, self.curve(text)))

    def to_dict(self) -> dict[str, Any]:
        """In JSON types."""
        return {"text": list(self.text), "image": list(self.image), "cutoff": self.cutoff}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """What `to_dict` gave. Raises ValueError, KeyError or TypeError for anything else."""
        text, image = (tuple(float(score) for score in data[name]) for name in ("text", "image"))
        return cls(text, image, float(data["cutoff"]))

    def curve(self, text: float) -> np.ndarray:
        """The score at each level, rising, for a query of which the share `text` is texts and the rest images."""
        curve = text * np.asarray(self.text) + (1 - text) * np.asarray(self.image)
        return curve + _STEP * np.arange(len(LEVELS))


def measure_calibration(
    images: np.ndarray,
    texts: np.ndarray,
    *,
    owners: Sequence[int] | np.ndarray | None = None,
    improbable: np.ndarray | None = None,
) -> Calibration | None:
    """The calibration of an embedder by what it made of a sample; None for fewer than 30 images. Images are unit rows,
    texts each as long as its strength (see QueryVector).

    `images` (n, dim); `texts` (m, dim), of which the one at i describes image `owners[i]`, or none where there are no
    `owners`; `improbable` (k, dim), texts about what is hardly there, which are needed where there are no `owners`. Of
    more than 1,000 images the first 1,000 count, with their texts; of more than 5,000 of these as many, evenly spread.
    """
    images = images[:_MOST]
    own = None if owners is None else np.asarray(owners)
    if own is not None:
        texts, own = texts[own < len(images)], own[own < len(images)]
    chosen = np.linspace(0, len(texts) - 1, min(len(texts), _MOST_TEXTS)).astype(int)
    texts, own = texts[chosen], None if own is None else own[chosen]
    if len(images) < _FEWEST or not len(texts):
        return None
    scores = (texts @ images.T).astype(np.float64)  # (m, n)
    others = np.ones(scores.shape, bool)
    if own is not None:
        others[np.arange(len(own)), own] = False
    between = (images @ images.T).astype(np.float64)[~np.eye(len(images), dtype=bool)]
    curves = Calibration(_quantiles(scores[others]), _quantiles(between), 0.0)
    matches = np.empty(0) if own is None else _found_matches(scores, own)
    kept = float(np.quantile(matches, 1 - _KEPT)) if len(matches) else None
    empty = None if improbable is None else float(np.quantile((improbable @ images.T).max(axis=1), _EMPTY))
    return replace(curves, cutoff=round(curves.relevance(_choose_cut(kept, empty)), 6))


def _choose_cut(kept: float | None, empty: float | None) -> float:
    """The least score of a likely match: what most true matches have, and most best matches of nothing have not."""
    if kept is None or empty is None:
        return max(score for score in (kept, empty, -1.0) if score is not None)
    return kept - _LEAN * max(0.0, kept - empty)


def _quantiles(scores: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(score), 6) for score in np.quantile(scores, LEVELS))


def _found_matches(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The scores of texts with their own images, where these are among the first ten."""
    mine: np.ndarray = scores[np.arange(len(own)), own]
    found: np.ndarray = mine[(scores > mine[:, None]).sum(axis=1) < _TOP]
    return found
