"""Random queries of every kind, as query_points, query_batch_points and query_points_groups take them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from qdrant_client import models

from congruence.filters import random_filter
from congruence.formulas import random_formula
from congruence.layouts import VectorSpec
from congruence.payloads import WORDS
from congruence.reads import maybe_filter, random_order, random_selectors
from congruence.requests import Request, Scene

__all__ = ["QUERIES"]


def _vector_or_id(random: Random, scene: Scene, spec: VectorSpec) -> Any:
    return random.choice(scene.ids) if random.random() < 0.4 and scene.ids else spec.value(random)


def _examples(random: Random, scene: Scene, spec: VectorSpec, least: int, most: int) -> list[Any]:
    return [_vector_or_id(random, scene, spec) for _ in range(random.randint(least, most))]


def _nearest(random: Random, scene: Scene, spec: VectorSpec) -> Any:
    value = spec.value(random)
    ways: list[Any] = [value, models.NearestQuery(nearest=value)]
    if spec.kind != "sparse":
        ways.append(np.array(value, dtype=random.choice([np.float32, np.float64])))
    return random.choice(ways)


def _by_id(random: Random, scene: Scene, spec: VectorSpec) -> Any:
    found = random.choice(scene.ids)
    return random.choice([found, models.NearestQuery(nearest=found)])


def _mmr(random: Random, scene: Scene, spec: VectorSpec) -> Any:
    # Many sparse vectors have nothing in common: if only that counts, one is as good as the other.
    diversity = random.choice([None, 0.0, 0.3, 0.7, *([] if spec.kind == "sparse" else [1.0])])
    how = models.Mmr(diversity=diversity, candidates_limit=random.choice([None, 20, 50]))
    return models.NearestQuery(nearest=_vector_or_id(random, scene, spec), mmr=how)


def _recommend(strategy: models.RecommendStrategy | None) -> Any:
    def query(random: Random, scene: Scene, spec: VectorSpec) -> Any:
        alone = strategy not in (None, models.RecommendStrategy.AVERAGE_VECTOR) and random.random() < 0.2
        positive = [] if alone else _examples(random, scene, spec, 1, 3)
        negative = _examples(random, scene, spec, 1, 3) if alone or random.random() < 0.6 else random.choice([None, []])
        asked = models.RecommendInput(positive=positive, negative=negative, strategy=strategy)
        return models.RecommendQuery(recommend=asked)

    return query


def _pairs(random: Random, scene: Scene, spec: VectorSpec, least: int) -> list[models.ContextPair]:
    return [
        models.ContextPair(positive=_vector_or_id(random, scene, spec), negative=_vector_or_id(random, scene, spec))
        for _ in range(random.randint(least, 3))
    ]


def _discover(random: Random, scene: Scene, spec: VectorSpec) -> Any:
    target, context = _vector_or_id(random, scene, spec), _pairs(random, scene, spec, 1)
    return models.DiscoverQuery(
        discover=models.DiscoverInput(target=target, context=random.choice([context, context[0]]))
    )


def _context(random: Random, scene: Scene, spec: VectorSpec) -> Any:
    return models.ContextQuery(context=_pairs(random, scene, spec, 1))


def _feedback(random: Random, scene: Scene, spec: VectorSpec) -> Any:
    feedback = [
        models.FeedbackItem(example=one, score=round(random.random(), 3))
        for one in _examples(random, scene, spec, 2, 4)
    ]
    weights = models.NaiveFeedbackStrategyParams(a=0.4, b=round(random.random(), 2), c=round(random.random(), 2))
    asked = models.RelevanceFeedbackInput(
        target=_vector_or_id(random, scene, spec),
        feedback=feedback,
        strategy=models.NaiveFeedbackStrategy(naive=weights),
    )
    return models.RelevanceFeedbackQuery(relevance_feedback=asked)


def _named(spec: VectorSpec) -> dict[str, Any]:
    return {} if spec.name == "" else {"using": spec.name}


def _page(random: Random, scene: Scene) -> dict[str, Any]:
    page: dict[str, Any] = {"query_filter": maybe_filter(random, scene, 0.3), **random_selectors(random, scene)}
    if random.random() < 0.8:
        page["limit"] = random.randint(1, 30)
    if random.random() < 0.3:
        page["offset"] = random.randint(0, 8)
    if random.random() < 0.2:
        page["search_params"] = models.SearchParams(
            exact=random.choice([True, False]), hnsw_ef=random.choice([None, 64])
        )
    return page


def _direct(kind: str, query: Any, kinds: Sequence[str]) -> Any:
    """Requests whose points are ranked by one vector."""

    def request(random: Random, scene: Scene) -> Request | None:
        if not (
            specs := scene.layout.of_kind(
                *kinds, exact=kind not in ("nearest dense", "nearest sparse", "nearest multi")
            )
        ):
            return None
        spec = random.choice(specs)
        options = {"query": query(random, scene, spec), **_named(spec), **_page(random, scene)}
        if spec.idf and random.random() < 0.3:  # terms are weighed as in a part of the collection
            part = models.IdfCorpusParams(corpus=random_filter(random, scene.ids, scene.names, "match"))
            options["search_params"] = models.SearchParams(idf=part)
        if random.random() < 0.25:
            options["score_threshold"] = round(random.uniform(-1.5, 3), 4)
        return Request.random(random, kind, "query_points", "points", tolerance=spec.tolerance, **options)

    return request


_ALL = ("dense", "sparse", "multi")
_BY_VECTOR = {
    "nearest dense": _direct("nearest dense", _nearest, ["dense"]),
    "nearest sparse": _direct("nearest sparse", _nearest, ["sparse"]),
    "nearest multi": _direct("nearest multi", _nearest, ["multi"]),
    "nearest to an id": _direct("nearest to an id", _by_id, _ALL),
    "mmr": _direct("mmr", _mmr, _ALL),
    "recommend average_vector": _direct(
        "recommend average_vector", _recommend(models.RecommendStrategy.AVERAGE_VECTOR), _ALL
    ),
    "recommend best_score": _direct("recommend best_score", _recommend(models.RecommendStrategy.BEST_SCORE), _ALL),
    "recommend sum_scores": _direct("recommend sum_scores", _recommend(models.RecommendStrategy.SUM_SCORES), _ALL),
    "recommend by default": _direct("recommend by default", _recommend(None), _ALL),
    "discover": _direct("discover", _discover, _ALL),
    "context": _direct("context", _context, _ALL),
    "feedback": _direct("feedback", _feedback, ["dense"]),
}


def _any_query(random: Random, scene: Scene) -> tuple[Any, VectorSpec] | None:
    """A query whose scores hardly tie, so that ranks are the same in every store."""
    if not (specs := scene.layout.of_kind(*_ALL, exact=True)):
        return None
    spec = random.choice(specs)
    kinds = [_nearest, _nearest, _nearest, _by_id, _recommend(None)]
    return random.choice(kinds)(random, scene, spec), spec


def _prefetches(random: Random, scene: Scene, least: int, most: int, depth: int = 0) -> list[models.Prefetch] | None:
    found = []
    for _ in range(random.randint(least, most)):
        if (made := _any_query(random, scene)) is None:
            return None
        query, spec = made
        inner = _prefetches(random, scene, 1, 2, depth + 1) if depth < 1 and random.random() < 0.2 else None
        found.append(
            models.Prefetch(
                query=query,
                prefetch=inner,
                limit=random.choice([None, 5, 12, 40]),
                filter=maybe_filter(random, scene, 0.3),
                **_named(spec),
            )
        )
    return found


def _fused(kind: str, query: Any, least: int = 1) -> Any:
    def request(random: Random, scene: Scene) -> Request | None:
        if (prefetch := _prefetches(random, scene, least, 3)) is None:
            return None
        options = {"query": query(random, scene, len(prefetch)), "prefetch": prefetch, **_page(random, scene)}
        return Request.random(random, kind, "query_points", "points", **options)

    return request


def _rrf(random: Random, scene: Scene, sources: int) -> Any:
    weights = [round(random.uniform(0.1, 3), 2) for _ in range(sources)]
    ways = [models.Rrf(), models.Rrf(k=random.randint(1, 90)), models.Rrf(k=random.randint(1, 90), weights=weights)]
    return models.RrfQuery(rrf=random.choice(ways))


def _rescored(random: Random, scene: Scene) -> Request | None:
    """A second vector ranks what the prefetches found."""
    if (prefetch := _prefetches(random, scene, 1, 2)) is None or (made := _any_query(random, scene)) is None:
        return None
    query, spec = made
    given: Any = prefetch[0] if len(prefetch) == 1 and random.random() < 0.5 else prefetch
    options = {"query": query, "prefetch": given, **_named(spec), **_page(random, scene)}
    return Request.random(random, "prefetch and rescore", "query_points", "points", **options)


def _formula(random: Random, scene: Scene) -> Request | None:
    if (prefetch := _prefetches(random, scene, 1, 2)) is None:
        return None
    query = random_formula(random, scene, sources=len(prefetch))
    options = {"query": query, "prefetch": prefetch, **_page(random, scene)}
    return Request.random(random, "formula", "query_points", "points", tolerance=1e-4, **options)


def _order(random: Random, scene: Scene) -> Request:
    query = models.OrderByQuery(order_by=random_order(random))
    options = {"query": query, **{name: one for name, one in _page(random, scene).items() if name != "offset"}}
    return Request.random(random, "order_by", "query_points", "order_by", **options)


def _without_query(random: Random, scene: Scene) -> Request:
    return Request.random(random, "no query", "query_points", "points", **_page(random, scene))


def _sample(random: Random, scene: Scene) -> Request:
    query = models.SampleQuery(sample=models.Sample.RANDOM)
    page = {name: one for name, one in _page(random, scene).items() if name != "offset"}  # local mode passes over it
    return Request.random(random, "sample", "query_points", "sample", query=query, **page)


def _text(random: Random, scene: Scene) -> Request:
    words = " ".join(random.choices(WORDS, k=random.randint(1, 3)))
    scoring = models.Bm25Scoring(
        bm25=models.Bm25Params(k=random.choice([None, 0.9, 2.0]), b=random.choice([None, 0.0, 0.4]))
    )
    query = models.TextQuery(text=random.choice([words, models.TextQueryInput(query=words, scoring=scoring)]))
    options = {"query": query, "using": "text", **_page(random, scene)}
    return Request.random(random, "text (BM25)", "query_points", "points", **options)


def _looked_up(random: Random, scene: Scene) -> Request | None:
    if not scene.other_ids or not (specs := scene.layout.of_kind(*_ALL, exact=True)):
        return None
    spec = random.choice(specs)
    found = [random.choice(scene.other_ids) for _ in range(2)]
    recommend = models.RecommendQuery(recommend=models.RecommendInput(positive=found[:1], negative=found[1:]))
    lookup = models.LookupLocation(collection=scene.other, vector=spec.name or None)
    options = {
        "query": random.choice([found[0], recommend]),
        "lookup_from": lookup,
        **_named(spec),
        **_page(random, scene),
    }
    return Request.random(random, "lookup_from", "query_points", "points", **options)


def _groups(random: Random, scene: Scene) -> Request | None:
    if (made := _any_query(random, scene)) is None:
        return None
    query, spec = made
    options = {
        "group_by": random.choice(["album", "n", "exif.iso", "owner", "boxes[].label", "tags", "nowhere"]),
        "query": query,
        "limit": random.randint(1, 6),
        "group_size": random.randint(1, 4),
        "query_filter": maybe_filter(random, scene, 0.3),
        **random_selectors(random, scene),
    }
    if random.random() < 0.2:
        options["score_threshold"] = round(random.uniform(-1.5, 2), 4)
    if random.random() < 0.2:
        options["with_lookup"] = random.choice(
            [scene.other, models.WithLookup(collection=scene.other, with_payload=["n"])]
        )
    return Request.random(random, "groups", "query_points_groups", "groups", **_named(spec), **options)


def _batch(random: Random, scene: Scene) -> Request | None:
    requests = []
    for _ in range(random.randint(1, 3)):
        if (made := _any_query(random, scene)) is None:
            return None
        query, spec = made
        asked = models.QueryRequest(
            query=query.tolist() if isinstance(query, np.ndarray) else query,
            filter=maybe_filter(random, scene),
            limit=random.choice([None, 3, 12]),
            offset=random.choice([None, 2]),
            with_payload=random.choice([None, True, ["n"]]),
            with_vector=random.choice([None, True]),
            **_named(spec),
        )
        requests.append(asked)
    return Request.random(random, "batch", "query_batch_points", "batch", requests=requests)


QUERIES = {
    **_BY_VECTOR,
    "prefetch and rescore": _rescored,
    "rrf": _fused("rrf", lambda random, scene, sources: models.FusionQuery(fusion=models.Fusion.RRF)),
    "rrf with k and weights": _fused("rrf with k and weights", _rrf),
    "dbsf": _fused("dbsf", lambda random, scene, sources: models.FusionQuery(fusion=models.Fusion.DBSF)),
    "formula": _formula,
    "order_by": _order,
    "no query": _without_query,
    "sample": _sample,
    "text (BM25)": _text,
    "lookup_from": _looked_up,
    "groups": _groups,
    "batch": _batch,
}
