"""Pages never repeat a point or pass over one: points of equal score stand in the order of their ids."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_client import models

from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.search import ranking

NUMBER, EQUAL = 300, 200
_RANDOM = random.Random(3)
IDS: list[Any] = [*_RANDOM.sample(range(10**6), NUMBER // 2)]
IDS += [str(uuid.UUID(int=_RANDOM.getrandbits(128))) for _ in range(NUMBER // 2)]
_RANDOM.shuffle(IDS)
SAME = [1.0, 0.0, 0.0]
QUERY = [0.9, 0.1, 0.0]


def order_of_ids(ids: list[Any]) -> list[Any]:
    return sorted(ids, key=lambda one: (isinstance(one, str), one))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeClient]:
    with connect(tmp_path_factory.mktemp("equal")) as client:
        assert isinstance(client, EdgeClient)
        params = models.VectorParams(size=3, distance=models.Distance.COSINE)
        sparse = {"words": models.SparseVectorParams()}
        client.create_collection("c", vectors_config=params, sparse_vectors_config=sparse)
        for start in range(0, NUMBER, 50):  # the order of writing is not that of ids
            client.upsert("c", [_point(i) for i in range(start, start + 50)])
        client.create_payload_index("c", "stars", models.PayloadSchemaType.INTEGER)
        yield client


def _point(i: int) -> models.PointStruct:
    vector = SAME if i % 3 else [_RANDOM.gauss(0, 1) for _ in range(3)]
    words = models.SparseVector(indices=[i % 4], values=[1.0])
    return models.PointStruct(id=IDS[i], vector={"": vector, "words": words}, payload={"stars": i % 5, "album": i % 7})


def _pair() -> models.ContextPair:
    return models.ContextPair(positive=[1.0, 0.2, 0.0], negative=[-1.0, 0.3, 0.1])


PREFETCH = [
    models.Prefetch(query=QUERY, limit=NUMBER),
    models.Prefetch(query=models.OrderByQuery(order_by="stars"), limit=NUMBER),
]
REQUESTS: dict[str, dict[str, Any]] = {
    "nearest": {"query": QUERY},
    "sparse": {"query": models.SparseVector(indices=[0, 1, 2, 3], values=[1.0, 1.0, 2.0, 2.0]), "using": "words"},
    "order by": {"query": models.OrderByQuery(order_by="stars")},
    "order by, falling": {"query": models.OrderByQuery(order_by=models.OrderBy(key="stars", direction="desc"))},
    "context": {"query": models.ContextQuery(context=[_pair()])},
    "discover": {"query": models.DiscoverQuery(discover=models.DiscoverInput(target=QUERY, context=[_pair()]))},
    "rrf": {"query": models.FusionQuery(fusion=models.Fusion.RRF), "prefetch": PREFETCH},
    "dbsf": {"query": models.FusionQuery(fusion=models.Fusion.DBSF), "prefetch": PREFETCH},
    "formula": {"query": models.FormulaQuery(formula="stars"), "prefetch": PREFETCH},
    "scored again": {"query": SAME, "prefetch": PREFETCH},
    "no query": {},
}


@pytest.mark.parametrize("size", [10, 64])
@pytest.mark.parametrize("name", REQUESTS)
def test_pages_show_every_point_once(client: EdgeClient, name: str, size: int) -> None:
    request = REQUESTS[name]
    starts = range(0, NUMBER, size)
    pages = [client.query_points("c", **request, limit=size, offset=start).points for start in starts]
    shown = [point for page in pages for point in page]
    everything = client.query_points("c", **request, limit=NUMBER).points

    assert [point.id for point in shown] == [point.id for point in everything]
    assert sorted(map(str, IDS)) == sorted(str(point.id) for point in shown)
    assert all(set(point.payload or {}) == {"stars", "album"} for point in shown)


@pytest.mark.parametrize("name", REQUESTS)
def test_equal_scores_are_in_the_order_of_ids(client: EdgeClient, name: str) -> None:
    points = client.query_points("c", **REQUESTS[name], limit=NUMBER).points
    by_place: dict[Any, list[Any]] = {}
    for point in points:
        by_place.setdefault((point.order_value, point.score), []).append(point.id)

    assert all(ids == order_of_ids(ids) for ids in by_place.values())
    assert name == "rrf" or max(map(len, by_place.values())) > 30


def test_a_filter_that_equal_points_pass_keeps_their_order(client: EdgeClient) -> None:
    album = models.Filter(must=[models.FieldCondition(key="album", match=models.MatchValue(value=2))])
    equal = [IDS[i] for i in range(NUMBER) if i % 3 and i % 7 == 2]

    shown = [
        point.id
        for start in range(0, 28, 4)
        for point in client.query_points("c", query=SAME, query_filter=album, limit=4, offset=start).points
    ]

    assert shown == order_of_ids(equal)[:28]


def test_of_very_many_equal_points_those_with_the_smallest_ids_are_found(
    client: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {name: client.query_points("c", **request, limit=NUMBER).points for name, request in REQUESTS.items()}
    # As if there were a hundred times as many: no more than 20 are read at once to see them all.
    monkeypatch.setattr(ranking, "_MOST_AT_ONCE", 20)
    monkeypatch.setattr(ranking, "_IDS_AT_ONCE", 16)

    for name, request in REQUESTS.items():
        for start in (0, 3, 30, 190):
            got = client.query_points("c", **request, limit=5, offset=start).points
            assert got == wanted[name][start : start + 5], (name, start)


def test_a_batch_and_groups_break_ties_alike(client: EdgeClient) -> None:
    equal = order_of_ids([IDS[i] for i in range(NUMBER) if i % 3])

    batch = client.query_batch_points("c", [models.QueryRequest(query=SAME, limit=5, offset=o) for o in (0, 5, 10)])
    groups = client.query_points_groups("c", group_by="album", query=SAME, limit=7, group_size=2).groups

    assert [point.id for answer in batch for point in answer.points] == equal[:15]
    album = {IDS[i]: i % 7 for i in range(NUMBER)}
    for group in groups:
        assert [hit.id for hit in group.hits] == [one for one in equal if album[one] == group.id][:2]
    assert [group.id for group in groups] == list(dict.fromkeys(album[one] for one in equal))


def test_a_point_stands_in_the_order_of_each_of_its_values(client: EdgeClient) -> None:
    client.create_collection("many", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
    points = [models.PointStruct(id=100 - i, vector=[1.0], payload={"n": [i % 3, 3 + i % 2]}) for i in range(60)]
    client.upsert("many", points)
    client.create_payload_index("many", "n", models.PayloadSchemaType.INTEGER)
    query = models.OrderByQuery(order_by="n")

    shown = [p for o in range(0, 120, 8) for p in client.query_points("many", query=query, limit=8, offset=o).points]

    wanted = sorted((value, point.id) for point in points for value in point.payload["n"])
    assert [(point.order_value, point.id) for point in shown] == wanted
