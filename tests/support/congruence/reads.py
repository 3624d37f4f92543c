"""Random requests that read without ranking: pages, points by id, counts, facets, distances."""

from __future__ import annotations

from random import Random
from typing import Any

from qdrant_client import models

from congruence.filters import CONDITIONS, random_filter
from congruence.payloads import INDEXES, random_moment
from congruence.requests import Request, Scene

__all__ = ["READS", "maybe_filter", "random_order", "random_selectors"]

_FACETS = ["album", "tags", "n", "good", "owner", "exif.iso"]


def maybe_filter(random: Random, scene: Scene, chance: float = 0.4) -> models.Filter | None:
    return random_filter(random, scene.ids, scene.names) if random.random() < chance else None


def random_selectors(random: Random, scene: Scene) -> dict[str, Any]:
    """with_payload and with_vectors, sometimes left to their defaults."""
    fields = random.sample(
        ["album", "exif.iso", "exif", "boxes[].label", "boxes[].parts", "n", "nowhere", "place.lat"], 2
    )
    include, exclude = models.PayloadSelectorInclude(include=fields), models.PayloadSelectorExclude(exclude=fields)
    chosen: dict[str, Any] = {}
    if random.random() < 0.6:
        chosen["with_payload"] = random.choice([True, False, fields, include, exclude])
    if random.random() < 0.5:
        chosen["with_vectors"] = random.choice([True, False, random.sample(scene.names, 1)])
    return chosen


def random_order(random: Random) -> models.OrderBy | str:
    key = random.choice(["n", "x", "when", "exif.iso"])
    if random.random() < 0.3:
        return key
    start: Any = None
    if random.random() < 0.3:
        start = random_moment(random).replace(" ", "T") if key == "when" else random.randint(-3, 300)
    return models.OrderBy(key=key, direction=random.choice([None, *models.Direction]), start_from=start)


def _scroll(random: Random, scene: Scene) -> Request:
    offset = random.choice([None, None, *scene.ids, 77])
    options = {"scroll_filter": maybe_filter(random, scene), "offset": offset, "limit": random.randint(1, 70)}
    return Request.random(random, "scroll", "scroll", "page", **options, **random_selectors(random, scene))


def _scroll_order(random: Random, scene: Scene) -> Request:
    options = {"scroll_filter": maybe_filter(random, scene), "limit": random.randint(1, 70)}
    selectors = random_selectors(random, scene)
    return Request.random(
        random, "scroll order_by", "scroll", "ordered", order_by=random_order(random), **options, **selectors
    )


def _retrieve(random: Random, scene: Scene) -> Request:
    ids = [*random.sample(scene.ids, min(len(scene.ids), random.randint(0, 6))), 99_999]
    random.shuffle(ids)
    return Request.random(random, "retrieve", "retrieve", "records", ids=ids, **random_selectors(random, scene))


def _count(random: Random, scene: Scene) -> Request:
    return Request.random(random, "count", "count", "equal", count_filter=maybe_filter(random, scene, 0.9), exact=True)


def _facet(random: Random, scene: Scene) -> Request:
    options = {
        "key": random.choice(_FACETS),
        "facet_filter": maybe_filter(random, scene),
        "limit": random.randint(1, 12),
    }
    return Request.random(random, "facet", "facet", "facet", **options, exact=True)


def _info(random: Random, scene: Scene) -> Request:
    return Request.random(random, "get_collection", "get_collection", "info")


def _matrix(method: str) -> Any:
    def request(random: Random, scene: Scene) -> Request | None:
        if not (specs := scene.layout.of_kind("dense", "sparse", "multi")):
            return None
        spec = random.choice(specs)
        # As many as there are: which points a smaller sample has is left to chance.
        options = {"query_filter": maybe_filter(random, scene), "limit": random.randint(1, 5), "sample": 1000}
        named = {} if spec.name == "" else {"using": spec.name}
        return Request.random(random, method, method, method, tolerance=spec.tolerance, **options, **named)

    return request


def _filter(condition: str) -> Any:
    def request(random: Random, scene: Scene) -> Request:
        chosen = random_filter(random, scene.ids, scene.names, condition)
        return Request.random(random, f"filter: {condition}", "scroll", "page", scroll_filter=chosen, limit=100)

    return request


READS = {
    "scroll": _scroll,
    "scroll order_by": _scroll_order,
    "retrieve": _retrieve,
    "count": _count,
    "facet": _facet,
    "get_collection": _info,
    "search_matrix_pairs": _matrix("search_matrix_pairs"),
    "search_matrix_offsets": _matrix("search_matrix_offsets"),
    **{f"filter: {name}": _filter(name) for name in CONDITIONS},
}

assert set(_FACETS) <= set(INDEXES)
