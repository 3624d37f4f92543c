"""Every kind of query gives on every client what QdrantClient(":memory:") gives: the same points, the same scores."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.exceptions import UnexpectedResponse

from clip_qdrant.errors import CollectionNotFound
from clip_qdrant.store.calls import call
from clip_qdrant.store.connect import connect

NAME, OTHER = (f"test_{uuid.uuid4().hex}" for _ in range(2))
NUMBER = 40
IDS: list[Any] = [i if i % 2 else str(uuid.UUID(int=1000 - i)) for i in range(NUMBER)]
MAX_SIM = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
DENSE = {
    "": models.VectorParams(size=4, distance=models.Distance.COSINE),
    "euclid": models.VectorParams(size=3, distance=models.Distance.EUCLID),
    "dot": models.VectorParams(size=3, distance=models.Distance.DOT),
    "rows": models.VectorParams(size=3, distance=models.Distance.COSINE, multivector_config=MAX_SIM),
}
SPARSE = {
    "words": models.SparseVectorParams(),
    "idf": models.SparseVectorParams(modifier=models.Modifier.IDF),
}
KINDS = [*DENSE, *SPARSE]
_RANDOM = random.Random(7)


def vector(kind: str) -> Any:
    """A vector to be stored or searched for. Each test draws its own."""
    if kind in SPARSE:
        return models.SparseVector(indices=_RANDOM.sample(range(9), 4), values=_draw(4))
    if kind == "rows":
        return [_draw(DENSE[kind].size) for _ in range(_RANDOM.randint(1, 3))]
    return _draw(DENSE[kind].size)


def _draw(number: int) -> list[float]:
    return [_RANDOM.gauss(0, 1) for _ in range(number)]


@pytest.fixture(autouse=True)
def _draw_anew(request: pytest.FixtureRequest) -> None:
    _RANDOM.seed(request.node.name)


POINTS = [
    models.PointStruct(
        id=IDS[i],
        vector={kind: vector(kind) for kind in KINDS},
        payload={
            "album": "abc"[i % 3],
            "year": 2000 + i,
            "price": i / 7,
            "tags": [["x"], ["x", "y"], []][i % 3],
            "place": {"lat": i * 2.0, "lon": i * 3.0},
            "day": f"2024-03-{i % 28 + 1:02}T00:00:00Z",
            "text": "red boat sea dog" if i == 3 else f"a cat and {'dog ' * (i % 5)}tree",
        },
    )
    for i in range(NUMBER)
]
LOOKED_UP = {i: vector("") for i in (1, 2)}
EARLY = models.Filter(must=[models.FieldCondition(key="year", range=models.Range(lt=2030))])


@pytest.fixture(scope="module")
def local() -> Iterator[QdrantBase]:
    """Local mode with the points, the measure of all."""
    client = QdrantClient(":memory:")
    _fill(client)
    yield client
    client.close()


@pytest.fixture(scope="module", params=["edge", "server"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantBase]:
    """The other clients, each filled once: no test changes the points."""
    if request.param == "edge":
        client = connect(tmp_path_factory.mktemp("queries"))
    else:
        client = connect(request.getfixturevalue("server_url"), api_key=os.environ.get("CLIP_QDRANT_TEST_API_KEY"))
    _fill(client)
    yield client
    for name in (NAME, OTHER):
        client.delete_collection(name)
    client.close()


def _fill(client: QdrantBase) -> None:
    client.create_collection(NAME, vectors_config=DENSE, sparse_vectors_config=SPARSE)
    client.upsert(NAME, POINTS, wait=True)
    indexes = {"year": "integer", "price": "float", "day": "datetime"}
    text = models.TextIndexParams(type=models.TextIndexType.TEXT, scoring=True)
    for field, index in {**indexes, "text": text}.items():
        client.create_payload_index(NAME, field, index, wait=True)
    client.create_collection(OTHER, vectors_config={"v": DENSE[""]})
    client.upsert(OTHER, [models.PointStruct(id=i, vector={"v": one}) for i, one in LOOKED_UP.items()], wait=True)


def search_local(local: QdrantBase, query: Any = None, **request: Any) -> list[models.ScoredPoint]:
    """What local mode finds, which takes no dicts for queries."""
    model = TypeAdapter(models.Query).validate_python(query) if isinstance(query, dict) else query
    return local.query_points(NAME, query=model, **request).points


def compare(client: QdrantBase, local: QdrantBase, **request: Any) -> list[models.ScoredPoint]:
    """The points of the client, after they were compared with those of local mode."""
    got = client.query_points(NAME, **request).points
    wanted = search_local(local, **request)
    assert [point.score for point in got] == pytest.approx([point.score for point in wanted], rel=1e-5, abs=1e-5)
    assert [point.id for point in got] == [point.id for point in wanted]
    assert [{**point.payload, "price": 0} for point in got] == [{**point.payload, "price": 0} for point in wanted]
    return got


def ids_of(answer: Any) -> list[Any]:
    return [point.id for point in answer.points]


def nearest(kind: str, limit: int = 20, **more: Any) -> models.Prefetch:
    return models.Prefetch(query=vector(kind), using=kind, limit=limit, **more)


def pair(kind: str) -> models.ContextPair:
    return models.ContextPair(positive=vector(kind), negative=IDS[_RANDOM.randrange(NUMBER)])


def recommend(kind: str, strategy: str | None) -> models.RecommendQuery:
    asked = models.RecommendInput(positive=[vector(kind), IDS[1]], negative=[IDS[2], vector(kind)], strategy=strategy)
    return models.RecommendQuery(recommend=asked)


def discover(kind: str) -> models.DiscoverQuery:
    return models.DiscoverQuery(discover=models.DiscoverInput(target=vector(kind), context=[pair(kind), pair(kind)]))


def feedback(kind: str) -> models.RelevanceFeedbackQuery:
    weights = models.NaiveFeedbackStrategyParams(a=0.5, b=0.7, c=0.3)
    items = [models.FeedbackItem(example=IDS[i], score=1 - i / 5) for i in range(3)]
    asked = models.RelevanceFeedbackInput(
        target=vector(kind), feedback=items, strategy=models.NaiveFeedbackStrategy(naive=weights)
    )
    return models.RelevanceFeedbackQuery(relevance_feedback=asked)


def with_mmr(kind: str) -> models.NearestQuery:
    return models.NearestQuery(nearest=vector(kind), mmr=models.Mmr(diversity=0.4, candidates_limit=25))


QUERIES = {
    "a vector": vector,
    "an id": lambda kind: IDS[5],
    "nearest": lambda kind: models.NearestQuery(nearest=vector(kind)),
    "a dict": lambda kind: {"nearest": IDS[4]},
    "mmr": with_mmr,
    "recommend": lambda kind: recommend(kind, None),
    "recommend, best score": lambda kind: recommend(kind, "best_score"),
    "recommend, sum of scores": lambda kind: recommend(kind, "sum_scores"),
    "discover": discover,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_over_any_kind_of_vector(client: Any, local: Any, query: str, kind: str) -> None:
    if kind in SPARSE and query.startswith("recommend,"):
        pytest.skip("of sparse vectors most have an equal score")

    found = compare(client, local, query=QUERIES[query](kind), using=kind, query_filter=EARLY, limit=8, offset=1)

    assert len(found) == 8


@pytest.mark.parametrize("kind", ["", "euclid", "dot"])
def test_relevance_feedback(client: Any, local: Any, kind: str) -> None:
    found = compare(client, local, query=feedback(kind), using=kind, limit=8)

    assert not {IDS[0], IDS[1], IDS[2]} & {point.id for point in found}


def test_context_keeps_what_is_on_the_right_side(client: Any, local: Any) -> None:
    query = models.ContextQuery(context=pair(""))

    got = client.query_points(NAME, query=query, limit=NUMBER).points
    wanted = local.query_points(NAME, query=query, limit=NUMBER).points

    assert {point.id: point.score for point in got} == pytest.approx({p.id: p.score for p in wanted}, abs=1e-5)


@pytest.mark.parametrize(
    "query",
    [
        models.FusionQuery(fusion=models.Fusion.RRF),
        models.FusionQuery(fusion=models.Fusion.DBSF),
        models.RrfQuery(rrf=models.Rrf(k=60, weights=[2.0, 0.7])),
        {"fusion": "rrf"},
        {"rrf": {"k": 3}},
    ],
    ids=["rrf", "dbsf", "weights", "dict", "k"],
)
def test_fusions_join_prefetches(client: Any, local: Any, query: Any) -> None:
    prefetch = [nearest(""), nearest("idf", filter=EARLY)]
    request: dict[str, Any] = {"prefetch": prefetch, "query": query, "limit": NUMBER, "with_vectors": ["", "words"]}

    for more in ({}, {"query_filter": EARLY}, {"score_threshold": 0.02}):
        got = client.query_points(NAME, **request, **more).points
        wanted = {point.id: point for point in search_local(local, **request, **more)}
        # Places of equal score are those of ids here, and any in local mode.
        assert {point.id: point.score for point in got} == pytest.approx(
            {id_: point.score for id_, point in wanted.items()}, rel=1e-5
        )
        assert [point.score for point in got] == sorted((point.score for point in got), reverse=True)
        assert all(
            set(point.vector) == {"", "words"} and set(point.payload) == set(wanted[point.id].payload) for point in got
        )
        page = client.query_points(NAME, **{**request, "limit": 5}, **more, offset=3).points
        assert [point.id for point in page] == [point.id for point in got[3:8]]


def test_prefetches_are_nested_and_scored_again(client: Any, local: Any) -> None:
    below = [nearest("dot", 30), nearest("euclid", 25, score_threshold=4.0)]
    middle = models.Prefetch(prefetch=below, query=models.FusionQuery(fusion=models.Fusion.DBSF), limit=18)
    rescored = models.Prefetch(prefetch=[middle], query=vector("rows"), using="rows", limit=12, filter=EARLY)

    compare(client, local, prefetch=rescored, query=vector(""), limit=6, offset=2)
    compare(client, local, prefetch=rescored, query=models.OrderByQuery(order_by="year"), limit=6)


FORMULAS = {
    "scores": models.SumExpression(sum=["$score", models.MultExpression(mult=[0.3, "$score[1]"])]),
    "payload": models.MultExpression(mult=["price", models.AbsExpression(abs=models.NegExpression(neg="$score"))]),
    "condition": models.SumExpression(
        sum=["$score", models.FieldCondition(key="album", match=models.MatchValue(value="b"))]
    ),
    "filter": models.SumExpression(sum=["$score", models.Filter(must_not=[EARLY])]),
    "decay of a day": models.GaussDecayExpression(
        gauss_decay=models.DecayParamsExpression(
            x=models.DatetimeKeyExpression(datetime_key="day"),
            target=models.DatetimeExpression(datetime="2024-03-14T06:00:00Z"),
            scale=86400.0 * 9,
        )
    ),
    "decay of a distance": models.ExpDecayExpression(
        exp_decay=models.DecayParamsExpression(
            x=models.GeoDistance(
                geo_distance=models.GeoDistanceParams(origin=models.GeoPoint(lat=31.5, lon=40.25), to="place")
            ),
            scale=3e6,
        )
    ),
    "linear decay": models.LinDecayExpression(
        lin_decay=models.DecayParamsExpression(x="price", target=2.22, scale=9.0, midpoint=0.4)
    ),
    "roots": models.SqrtExpression(sqrt=models.PowExpression(pow=models.PowParams(base="price", exponent=3.0))),
    "logarithms": models.SumExpression(
        sum=[
            models.LnExpression(ln=models.SumExpression(sum=["price", 2.0])),
            models.Log10Expression(log10="year"),
            models.ExpExpression(exp=models.NegExpression(neg="price")),
            models.AcoshExpression(acosh=models.SumExpression(sum=["price", 1.5])),
        ]
    ),
    "division": models.DivExpression(div=models.DivParams(left="$score", right="price", by_zero_default=-1.0)),
    "extremes": models.MaxExpression(max=["$score", models.MinExpression(min=["price", 0.001])]),
    "default": models.SumExpression(sum=["$score", "no_such_field"]),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_make_scores(client: Any, local: Any, name: str) -> None:
    query = models.FormulaQuery(formula=FORMULAS[name], defaults={"no_such_field": 2.5, "$score[1]": 0.1})
    below = [nearest("words", 6), nearest("idf", 9)]
    prefetch = [
        nearest("", 12),
        models.Prefetch(prefetch=below, query=models.FusionQuery(fusion=models.Fusion.DBSF), limit=10),
    ]

    got = client.query_points(NAME, query=query, prefetch=prefetch, limit=NUMBER).points
    wanted = local.query_points(NAME, query=query, prefetch=prefetch, limit=NUMBER).points

    assert {p.id: p.score for p in got} == pytest.approx({p.id: p.score for p in wanted}, rel=1e-5, abs=1e-6)
    assert [p.score for p in got] == sorted((p.score for p in got), reverse=True)
    assert got[3:7] == client.query_points(NAME, query=query, prefetch=prefetch, limit=4, offset=3).points


@pytest.mark.parametrize(
    "order",
    [
        "year",
        models.OrderBy(key="price", direction=models.Direction.DESC),
        models.OrderBy(key="year", start_from=2015),
        {"key": "year", "direction": "desc", "start_from": 2015},
    ],
)
def test_order_by_a_field(client: Any, local: Any, order: Any) -> None:
    query = {"order_by": order} if isinstance(order, dict) else models.OrderByQuery(order_by=order)

    found = compare(client, local, query=query, limit=7, offset=2, query_filter=EARLY)

    values = [point.order_value for point in found]
    assert values == sorted(values, reverse=values[0] > values[-1])


def test_a_random_sample_has_all_points_once(client: Any) -> None:
    query = models.SampleQuery(sample=models.Sample.RANDOM)

    some = client.query_points(NAME, query=query, limit=7, query_filter=EARLY).points
    everything = client.query_points(NAME, query=query, limit=100).points

    assert len(some) == len({point.id for point in some}) == 7
    assert all(point.payload["year"] < 2030 for point in some)
    assert {point.id for point in everything} == set(IDS)


def test_without_a_query_points_come_in_the_order_of_their_ids(client: Any, local: Any) -> None:
    compare(client, local, limit=7, offset=3, query_filter=EARLY, with_payload=["year"])


def test_vectors_are_given_by_name(client: Any) -> None:
    found = client.query_points(NAME, query=IDS[0], limit=1, with_vectors=["dot", "words"], with_payload=False).points

    assert set(found[0].vector) == {"dot", "words"}
    assert isinstance(found[0].vector["words"], models.SparseVector)
    assert found[0].payload is None


def test_ids_are_looked_up_in_another_collection(client: Any, local: Any) -> None:
    where = models.LookupLocation(collection=OTHER, vector="v")

    found = client.query_points(NAME, query=1, lookup_from=where, limit=NUMBER).points
    direct = local.query_points(NAME, query=LOOKED_UP[1], limit=NUMBER).points
    prefetched = client.query_points(
        NAME, prefetch=[{"query": 2, "lookup_from": where, "limit": 5}], query={"fusion": "rrf"}
    ).points

    assert [point.id for point in found] == [point.id for point in direct], "the point of that id here is one of them"
    assert [p.id for p in prefetched] == [p.id for p in local.query_points(NAME, query=LOOKED_UP[2], limit=5).points]


def test_a_batch_gives_what_its_queries_give(client: Any, local: Any) -> None:
    prefetch = [nearest(""), nearest("dot")]
    requests = [
        models.QueryRequest(query=vector(""), limit=3),
        models.QueryRequest(query=IDS[3], using="idf", filter=EARLY, with_payload=True, offset=2),
        models.QueryRequest(
            query=models.RrfQuery(rrf=models.Rrf(k=9)), prefetch=prefetch, limit=2, with_vector=["dot"]
        ),
        models.QueryRequest(limit=2),
        models.QueryRequest(query=with_mmr("rows"), using="rows", limit=4),
    ]

    got = [answer.points for answer in client.query_batch_points(NAME, requests)]
    wanted = [answer.points for answer in local.query_batch_points(NAME, requests)]

    assert [[point.id for point in points] for points in got] == [[point.id for point in points] for points in wanted]
    assert [point.payload is None for points in got for point in points] == [
        point.payload is None for points in wanted for point in points
    ]
    assert client.query_batch_points(NAME, []) == []


@pytest.mark.parametrize(
    "params", [{"exact": True}, {"hnsw_ef": 64}, {"quantization": {"rescore": True}}, {"acorn": {"enable": True}}]
)
def test_search_params_of_every_kind(client: Any, params: dict[str, Any]) -> None:
    target = vector("")

    found = client.query_points(NAME, query=target, search_params=models.SearchParams(**params), query_filter=EARLY)

    assert [p.id for p in found.points] == [p.id for p in client.query_points(NAME, target, query_filter=EARLY).points]


def test_idf_counts_the_words_of_a_corpus(client: Any, local: Any) -> None:
    params = models.SearchParams(idf=models.IdfCorpusParams(corpus=EARLY))

    compare(client, local, query=vector("idf"), using="idf", search_params=params, limit=5)


def test_a_text_is_searched_by_bm25(client: Any, local: Any) -> None:
    scoring = models.Bm25Scoring(bm25=models.Bm25Params(k=1.7, b=0.3))
    query = models.TextQuery(text=models.TextQueryInput(query="red dog", scoring=scoring))

    plain = client.query_points(NAME, query=models.TextQuery(text="red boat"), using="text").points
    got = client.query_points(NAME, query=query, using="text", limit=NUMBER).points
    wanted = local.query_points(NAME, query=query, using="text", limit=NUMBER).points

    assert [point.id for point in plain] == [IDS[3]]
    assert {point.id: point.score for point in got} == pytest.approx({p.id: p.score for p in wanted}, rel=1e-5)


@pytest.mark.parametrize(
    "request_",
    [
        {"prefetch": [nearest("")]},
        {"score_threshold": 0.5},
        {"query": models.FusionQuery(fusion=models.Fusion.RRF)},
        {"query": models.FormulaQuery(formula="$score")},
        {"query": models.RrfQuery(rrf=models.Rrf(weights=[1.0])), "prefetch": [nearest(""), nearest("")]},
        {"query": models.OrderByQuery(order_by="year"), "score_threshold": 0.5},
        {"query": models.RecommendQuery(recommend=models.RecommendInput(negative=[IDS[0]]))},
        {"query": models.RecommendQuery(recommend=models.RecommendInput(strategy="best_score"))},
        {"query": models.TextQuery(text="x")},
        {"query": 999},
        {"query": [1.0, 2.0]},
        {"query": [0.1, 0.2, 0.3, 0.4], "using": "no_such"},
        {"query": vector("words"), "using": "dot"},
        {"query": vector("dot"), "using": "words"},
        {"query": {"no_such": 1}},
        {"query": [0.1, 0.2, 0.3, 0.4], "prefetch": [{"no_such": 1}]},
        {"query": [0.1, 0.2, 0.3, 0.4], "offset": -1},
    ],
)
def test_what_makes_no_query_is_refused(client: Any, request_: dict[str, Any]) -> None:
    with pytest.raises((ValueError, UnexpectedResponse)):
        client.query_points(NAME, **request_)


def test_a_lookup_in_no_collection_names_it(client: Any) -> None:
    where = models.LookupLocation(collection="no_such")

    with pytest.raises(CollectionNotFound, match="no_such"):
        call(lambda: client.query_points(NAME, query=1, lookup_from=where), what="query")
