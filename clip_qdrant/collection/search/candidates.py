"""choose_among_best: what the store cannot do by itself with the best of a ranking: to collapse, and to put in order.

More points are read than the page holds, with no more of each than is needed to choose; the page is then read by id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from qdrant_client import models

from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.points import dense_vector
from clip_qdrant.collection.search.options import Collapse
from clip_qdrant.collection.search.order import Order, resolve_order
from clip_qdrant.collection.search.request import StoreRequest
from clip_qdrant.collection.search.same_image import PAYLOAD_KEYS, Looks, is_same

__all__ = ["Chosen", "Collapser", "choose_among_best"]

_FARTHEST = 10_000  # the most that are looked at to fill a page that is collapsed
_PAGES_AT_ONCE = 4  # read at once for one page that is collapsed
_LEAST_AT_ONCE = 100


@dataclass(slots=True)
class Chosen:
    """A point that stands for itself and its copies, the ids of other points."""

    point: models.ScoredPoint
    looks: Looks | None = None
    copies: list[str] = field(default_factory=list)


class Collapser:
    """Puts near-duplicates together as points come, best first.

    A point joins the first that it is the same as, so that what is chosen first stays so however many come after it.
    """

    def __init__(self, level: Collapse) -> None:
        self.chosen: list[Chosen] = []
        self._level = level
        self._by_bytes: dict[str, Chosen] = {}

    def add(self, point: models.ScoredPoint) -> None:
        looks = Looks.read(point.payload, dense_vector(point.vector))
        same = self._by_bytes.get(looks.sha256) if looks.sha256 else None
        if same is None and self._level != "bytes":
            others = (one for one in self.chosen if one.looks is not None and is_same(one.looks, looks, self._level))
            same = next(others, None)
        if same is not None:
            same.copies.append(str(point.id))
            return
        one = Chosen(point, looks)
        self.chosen.append(one)
        if looks.sha256:
            self._by_bytes[looks.sha256] = one


def choose_among_best(request: StoreRequest) -> list[Hit]:
    """The hits of a request that collapses near-duplicates, or orders what matches by a field."""
    options = request.options
    order = None if options.order_by is None else resolve_order(options.order_by, request.reader)
    pages = _read_best(request, order)
    if options.collapse is None:
        chosen = [Chosen(point) for page in pages for point in page]
    else:
        chosen = _collapse(pages, options.collapse, None if order else options.offset + options.limit)
    if order is not None:
        chosen = order.sort(chosen, lambda one: one.point.payload)
    shown = chosen[options.offset : options.offset + options.limit]
    scores = {one.point.id: one.point.score for one in shown}
    copies = {str(one.point.id): tuple(one.copies) for one in shown}
    hits = request.fill_hits([one.point.id for one in shown], scores)
    return [replace(hit, copies=copies[hit.id]) if copies[hit.id] else hit for hit in hits]


def _collapse(pages: Iterator[list[models.ScoredPoint]], level: Collapse, wanted: int | None) -> list[Chosen]:
    """What is left of the pages, which are read until there are as many as wanted."""
    collapser = Collapser(level)
    for page in pages:
        for point in page:
            collapser.add(point)
        if wanted is not None and len(collapser.chosen) >= wanted:
            break
    return collapser.chosen


def _read_best(request: StoreRequest, order: Order | None) -> Iterator[list[models.ScoredPoint]]:
    """The points of a ranking, best first, as far as they may be looked at."""
    options = request.options
    keys = [*(PAYLOAD_KEYS if options.collapse else ()), *([order.key] if order else ())]
    vectors = options.collapse == "similar"
    at_once = max(_LEAST_AT_ONCE, _PAGES_AT_ONCE * (options.offset + options.limit))
    most = request.most_looked_at or max(_FARTHEST, at_once)
    if order is not None or request.is_diverse:
        at_once = most
    seen = 0
    while seen < most:
        size = min(at_once, most - seen)
        page = request.read_page(size, seen, payload=keys, vectors=vectors)
        yield page
        seen += len(page)
        if len(page) < size:
            return
