"""Random requests that are wrong: every store must refuse them."""

from __future__ import annotations

from random import Random
from typing import Any

from qdrant_client import models

from congruence.layouts import VectorSpec
from congruence.requests import Request, Scene

__all__ = ["MISTAKES"]


def _spec(random: Random, scene: Scene, *kinds: str) -> VectorSpec | None:
    specs = scene.layout.of_kind(*(kinds or ("dense", "multi", "sparse")))
    return random.choice(specs) if specs else None


def _named(spec: VectorSpec) -> dict[str, Any]:
    return {} if spec.name == "" else {"using": spec.name}


def _wrong_size(random: Random, scene: Scene) -> Request | None:
    if (spec := _spec(random, scene, "dense")) is None:
        return None
    # Not a single number, which local mode takes for any vector.
    vector = [0.5] * random.choice([spec.size + 1, spec.size - 1 if spec.size > 2 else 2 * spec.size])
    if random.random() < 0.5:
        return Request.random(random, "wrong size", "query_points", "points", query=vector, **_named(spec))
    point = models.PointStruct(id=1, vector={spec.name: vector})
    return Request.random(random, "wrong size", "upsert", "state", points=[point])


def _no_such_vector(random: Random, scene: Scene) -> Request:
    values = scene.layout.vectors[0].value(random)
    ways = [
        ("query_points", "points", {"query": [0.5, 0.5], "using": "nowhere"}),
        ("upsert", "state", {"points": [models.PointStruct(id=1, vector={"nowhere": values})]}),
        ("update_vectors", "state", {"points": [models.PointVectors(id=scene.ids[0], vector={"nowhere": values})]}),
        ("delete_vectors", "state", {"points": scene.ids[:1], "vectors": ["nowhere"]}),
    ]
    method, compare, options = random.choice(ways)
    return Request.random(random, "no such vector", method, compare, **options)


def _no_such_point(random: Random, scene: Scene) -> Request | None:
    if (spec := _spec(random, scene)) is None:
        return None
    recommend = models.RecommendQuery(recommend=models.RecommendInput(positive=[99_999]))
    ways = [
        ("query_points", "points", {"query": random.choice([99_999, recommend]), **_named(spec)}),
        ("update_vectors", "state", {"points": [models.PointVectors(id=99_999, vector=scene.layout.values(random))]}),
        ("set_payload", "state", {"payload": {"a": 1}, "points": [99_999]}),
        ("delete_payload", "state", {"keys": ["n"], "points": [scene.ids[0], 99_999]}),
        ("overwrite_payload", "state", {"payload": {"a": 1}, "points": [99_999]}),
    ]
    method, compare, options = random.choice(ways)
    return Request.random(random, "no such point", method, compare, **options)


def _no_such_collection(random: Random, scene: Scene) -> Request:
    spec = scene.layout.vectors[0]
    lookup = models.LookupLocation(collection="nowhere")
    return Request.random(
        random, "no such collection", "query_points", "points", query=scene.ids[0], lookup_from=lookup, **_named(spec)
    )


def _without_prefetch(random: Random, scene: Scene) -> Request:
    queries = [
        models.FusionQuery(fusion=random.choice(list(models.Fusion))),
        models.RrfQuery(rrf=models.Rrf(k=3)),
        models.FormulaQuery(formula="$score"),
    ]
    return Request.random(random, "without prefetch", "query_points", "points", query=random.choice(queries))


def _bad_id(random: Random, scene: Scene) -> Request:
    bad = "photo.jpg"  # local mode takes numbers of any size, and cannot read them afterwards
    point = models.PointStruct(id=bad, vector=scene.layout.values(random))
    return Request.random(random, "bad id", "upsert", "state", points=[point])


def _no_examples(random: Random, scene: Scene) -> Request | None:
    if (spec := _spec(random, scene)) is None:
        return None
    asked = models.RecommendInput(
        positive=random.choice([None, []]), negative=[], strategy=random.choice([None, *models.RecommendStrategy])
    )
    query = models.RecommendQuery(recommend=asked)
    return Request.random(random, "no examples", "query_points", "points", query=query, **_named(spec))


def _empty_change(random: Random, scene: Scene) -> Request:
    ways = [
        ("upsert", {"points": []}),
        ("update_vectors", {"points": []}),
        ("delete_vectors", {"points": scene.ids[:1], "vectors": []}),
    ]
    method, options = random.choice(ways)
    return Request.random(random, "empty change", method, "state", **options)


def _doubled_index(random: Random, scene: Scene) -> Request | None:
    if (spec := _spec(random, scene, "sparse")) is None:
        return None
    vector = random.choice(
        [models.SparseVector(indices=[3, 3], values=[1.0, 2.0]), models.SparseVector(indices=[3], values=[1.0, 2.0])]
    )
    point = models.PointStruct(id=1, vector={spec.name: vector})
    ways = [("upsert", "state", {"points": [point]}), ("query_points", "points", {"query": vector, "using": spec.name})]
    method, compare, options = random.choice(ways)
    return Request.random(random, "doubled index", method, compare, **options)


def _undefined_formula(random: Random, scene: Scene) -> Request | None:
    if (spec := _spec(random, scene)) is None:
        return None
    formulas: list[Any] = [
        models.SqrtExpression(sqrt=-1.0),
        models.LnExpression(ln=0.0),
        models.DivExpression(div=models.DivParams(left=1.0, right=0.0)),
        models.SumExpression(sum=["$score", "nowhere"]),
    ]
    prefetch = models.Prefetch(query=spec.value(random), **_named(spec))
    query = models.FormulaQuery(formula=random.choice(formulas))
    return Request.random(random, "undefined formula", "query_points", "points", prefetch=prefetch, query=query)


MISTAKES = {
    "wrong size": _wrong_size,
    "no such vector": _no_such_vector,
    "no such point": _no_such_point,
    "no such collection": _no_such_collection,
    "without prefetch": _without_prefetch,
    "bad id": _bad_id,
    "no examples": _no_examples,
    "empty change": _empty_change,
    "doubled index": _doubled_index,
    "undefined formula": _undefined_formula,
}
