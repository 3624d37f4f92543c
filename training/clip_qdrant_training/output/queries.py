"""The queries that went best and worst, with the images they found, as HTML."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from clip_qdrant.errors import ImageError, SourceError
from clip_qdrant.pages.thumbnails import make_thumbnail, picture_html
from clip_qdrant_training.data.pairs import Pair, image_input
from clip_qdrant_training.evaluation.judge import Judgement

__all__ = ["QUERY_STYLE", "Thumbnails", "queries_html"]

_QUERIES = 6  # shown of the best, and of the worst
_FOUND = 5  # images shown for a query
_SIDE = 220  # pixels of a thumbnail: sharp at 110 CSS pixels on a screen of double density

QUERY_STYLE = """
.query { margin-bottom: 12px; }
.query q { font-weight: 550; }
.query p { margin: 0 0 8px; font-size: 13px; }
.found { display: flex; flex-wrap: wrap; gap: 10px; }
figure { margin: 0; width: 134px; padding: 3px; border: 2px solid transparent; border-radius: 10px; }
figure.own { border-color: var(--right); }
figure div { height: 92px; display: grid; place-items: center; background: var(--well); border-radius: 7px;
  overflow: hidden; color: var(--faint); font-size: 12px; }
figure img { max-width: 100%; max-height: 92px; display: block; }
figcaption { padding: 2px 2px 0; color: var(--faint); font-size: 12px; font-variant-numeric: tabular-nums; }
.own figcaption { color: var(--right); font-weight: 600; }
"""


def queries_html(
    judged: Judgement, thumbnails: Thumbnails, owner: np.ndarray, order: np.ndarray, rank: np.ndarray
) -> str:
    """The first queries of `order`, no two of them captions of one image."""
    _, first = np.unique(owner[order], return_index=True)
    chosen = order[np.sort(first)[:_QUERIES]]
    captions = [caption for pair in thumbnails.pairs for caption in pair.captions]
    shown = []
    for query in chosen:
        scores = judged.images @ judged.texts[query]  # (images,)
        found = [int(i) for i in np.argsort(-scores, kind="stable")[:_FOUND]]
        own = int(owner[query])
        figures = [thumbnails.figure(i, f"{place}. {scores[i]:.3f}", own=i == own) for place, i in enumerate(found, 1)]
        if own not in found:
            figures.append(thumbnails.figure(own, f"{rank[query]}. {scores[own]:.3f}", own=True))
        shown.append(
            f'<div class="card query"><q>{escape(captions[query])}</q>'
            f'<p class="note">its own image is number {rank[query]:,} of {len(judged.images):,}</p>'
            f'<div class="found">{"".join(figures)}</div></div>'
        )
    return "".join(shown)


class Thumbnails:
    """Figures of the images of some pairs; each image is decoded once."""

    def __init__(self, pairs: list[Pair]) -> None:
        self.pairs = pairs
        self._made: dict[int, str | None] = {}

    def figure(self, number: int, text: str, *, own: bool) -> str:
        if number not in self._made:
            self._made[number] = _thumbnail(self.pairs[number].image)
        caption = escape(self.pairs[number].captions[0])
        picture = picture_html(self._made[number], caption)
        css = ' class="own"' if own else ""
        return f"<figure{css}><div>{picture}</div><figcaption>{text}{' own' if own else ''}</figcaption></figure>"


def _thumbnail(image: Any) -> str | None:
    """The data: uri of a small JPEG; None for an image that is gone or damaged, which is no reason to lose a report."""
    try:
        source = image_input(image)
    except (ImageError, SourceError):
        return None
    return make_thumbnail(source, side=_SIDE)
