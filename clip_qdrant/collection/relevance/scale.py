"""RelevanceScale: from the scores of one search to relevance and back, by the calibration in force for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from clip_qdrant.calibration.curves import LEVELS
from clip_qdrant.calibration.rounding import round_down
from clip_qdrant.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clip_qdrant.calibration.curves import Calibration
    from clip_qdrant.collection.query import Term

__all__ = ["MinRelevance", "RelevanceScale", "measure_text_share"]

MinRelevance: TypeAlias = 'float | Literal["auto"]'

_OTHERWISE = "score_threshold does without"


class RelevanceScale:
    """The scale of one search: `calibration` is that of the collection or, without one, of the embedder; `text` is the
    share of texts in the query, `strength` that of its vector (see QueryVector).

    `calibration` or `text` is None where it is not known; then no hit has a relevance.
    """

    def __init__(self, calibration: Calibration | None, text: float | None, strength: float = 1.0) -> None:
        self.calibration = calibration
        self.text = text
        self.strength = strength
        self._curve: np.ndarray | None = None  # made once for all hits

    def measure(self, score: float | None) -> float | None:
        """The relevance of a cosine similarity, 0 to 1, of four digits: as `min_relevance` it finds the image."""
        if score is None or self.calibration is None or self.text is None:
            return None
        if self._curve is None:
            self._curve = self.calibration.curve(self.text)
        return round_down(float(np.interp(score * self.strength, self._curve, LEVELS)), 4)

    def find_cutoff(self, asked: MinRelevance, *, otherwise: str = _OTHERWISE) -> float:
        """The least relevance that `min_relevance` asks for.

        Raises QueryError where there is no calibration; `otherwise` tells what there is to do without.
        """
        if self.calibration is None:
            raise QueryError(
                f"min_relevance={asked!r} needs a calibration, which the model has not: `clip-qdrant calibrate`, or "
                f"calibrate() of the collection, makes one; {otherwise}"
            )
        if self.text is None:
            raise QueryError(
                f"min_relevance={asked!r} is for texts and images: what Query.vector stands for is not known; "
                "give score_threshold, or the text or image itself"
            )
        return self.calibration.cutoff if asked == "auto" else asked

    def find_score(self, asked: MinRelevance, *, otherwise: str = _OTHERWISE) -> float:
        """The least cosine similarity that `min_relevance` lets through. Raises QueryError as `find_cutoff`."""
        cutoff = self.find_cutoff(asked, otherwise=otherwise)
        assert self.calibration is not None, "find_cutoff raises without one"
        assert self.text is not None
        return self.calibration.score(cutoff, text=self.text) / self.strength


def measure_text_share(terms: Sequence[Term]) -> float | None:
    """The share of texts among the terms of a query, by weight, 0 to 1; None if a term is a bare vector."""
    if any(term.kind == "vector" for term in terms):
        return None
    total = sum(abs(term.weight) for term in terms)
    texts = sum(abs(term.weight) for term in terms if term.kind == "text")
    return texts / total if total else None
