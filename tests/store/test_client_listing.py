"""Every client lists points in the order of a field, with the vectors and payload fields that are asked for."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import InvalidRequest, StoreError
from clip_qdrant.store.calls import call
from clip_qdrant.store.edge.client import EdgeClient

DOT = models.VectorParams(size=2, distance=models.Distance.DOT)
FIRST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def name(client: QdrantBase, collection_name: str) -> str:
    """Forty points with few different values in each field, written in an order that is not that of their ids."""
    client.create_collection(collection_name, {"": DOT, "a": DOT}, {"text": models.SparseVectorParams()})
    for field, kind in {"n": "integer", "x": "float", "at": "datetime", "many": "integer"}.items():
        client.create_payload_index(collection_name, field, kind, wait=True)
    points = [
        models.PointStruct(
            id=i,
            vector={"": [i, 0.0], "a": [0.0, i]},
            payload={
                "n": i % 3,
                "x": (i % 4) / 3,
                "at": (FIRST + timedelta(days=i % 5, microseconds=7)).isoformat(),
                "many": [i % 2, 7, i],
                "odd": i % 2 == 1,
            },
        )
        for i in range(40)
    ]
    points.append(models.PointStruct(id=99, vector={}, payload={"n": "no number", "x": None}))
    client.upsert(collection_name, points, wait=True)
    return collection_name


@pytest.mark.parametrize("field", ["n", "x", "at"])
@pytest.mark.parametrize("direction", list(models.Direction))
@pytest.mark.parametrize("limit", [1, 7, 20, 100])
def test_points_come_in_the_order_of_a_field(
    client: QdrantBase, name: str, field: str, direction: models.Direction, limit: int
) -> None:
    order = models.OrderBy(key=field, direction=direction)
    records, following = client.scroll(name, limit=limit, order_by=order)

    everything = [one for one in client.scroll(name, limit=100)[0] if one.id != 99]
    falling = direction == models.Direction.DESC
    values = sorted((one.payload[field] for one in everything), reverse=falling)[:limit]
    assert [one.payload[field] for one in records] == values
    assert following is None
    if isinstance(client, EdgeClient):  # elsewhere equal values are in any order
        expected = sorted(everything, key=lambda one: one.payload[field], reverse=falling)[:limit]
        assert [one.id for one in records] == [one.id for one in expected]


def test_the_value_of_the_order_comes_with_each_point(client: QdrantBase, name: str) -> None:
    assert [one.order_value for one in client.scroll(name, limit=14, order_by="n")[0]] == [0] * 14
    [one] = client.scroll(name, limit=1, order_by=models.OrderBy(key="at", direction="desc"))[0]
    assert one.order_value == round((FIRST.timestamp() + 4 * 86400) * 1_000_000) + 7


@pytest.mark.parametrize(
    ("start", "values"),
    [
        ({"key": "n", "start_from": 2}, {2}),
        ({"key": "n", "start_from": 1, "direction": "desc"}, {1, 0}),
        ({"key": "x", "start_from": 0.5}, {2 / 3, 1.0}),
        (
            {"key": "at", "start_from": FIRST + timedelta(days=4)},
            {(FIRST + timedelta(days=4, microseconds=7)).isoformat()},
        ),
        (
            {"key": "at", "start_from": "2020-01-05T00:00:00Z"},
            {(FIRST + timedelta(days=4, microseconds=7)).isoformat()},
        ),
    ],
)
def test_an_order_may_start_from_a_value(
    client: QdrantBase, name: str, start: dict[str, Any], values: set[Any]
) -> None:
    records, _ = client.scroll(name, limit=100, order_by=models.OrderBy.model_validate(start))

    assert {one.payload[start["key"]] for one in records} == values


def test_a_point_comes_once_for_each_value_of_a_field(client: QdrantBase, name: str) -> None:
    only = models.Filter(must=[models.HasIdCondition(has_id=[4, 5])])
    records, _ = client.scroll(name, only, limit=100, order_by="many")

    assert [(one.id, one.order_value) for one in records][:2] == [(4, 0), (5, 1)]
    assert sorted((one.id, one.order_value) for one in records) == [(4, 0), (4, 4), (4, 7), (5, 1), (5, 5), (5, 7)]


def test_a_filter_holds_in_an_order_too(client: QdrantBase, name: str) -> None:
    odd = models.Filter(must=[models.FieldCondition(key="odd", match=models.MatchValue(value=True))])
    records, _ = client.scroll(name, odd, limit=9, order_by="n")

    assert [one.payload["n"] for one in records] == [0] * 7 + [1] * 2
    assert all(one.payload["odd"] for one in records)


def test_pages_in_an_order_are_the_same_whatever_their_size(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", DOT)
    edge_client.create_payload_index("c", "n", "integer")
    ids = [*range(50), *[f"00000000-0000-0000-0000-0000000000{i:02d}" for i in range(50)]]
    random.Random(1).shuffle(ids)
    points = [
        models.PointStruct(id=one, vector=[1.0, 2.0], payload={"n": 2**60 + at % 2}) for at, one in enumerate(ids)
    ]
    edge_client.upsert("c", points)

    for direction in models.Direction:
        order = models.OrderBy(key="n", direction=direction)
        everything = [one.id for one in edge_client.scroll("c", limit=1000, order_by=order)[0]]
        assert len(everything) == 100
        for limit in (1, 13, 50, 51, 99):
            assert [one.id for one in edge_client.scroll("c", limit=limit, order_by=order)[0]] == everything[:limit]


def test_a_field_that_does_not_sort_says_what_it_needs(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", DOT)
    edge_client.create_payload_index("c", "album", "keyword")
    edge_client.create_payload_index("c", "n", models.IntegerIndexParams(type="integer", lookup=True, range=False))

    for field in ("none", "album", "n"):
        for ask in (
            lambda field: edge_client.scroll("c", order_by=field),
            lambda field: edge_client.query_points("c", query=models.OrderByQuery(order_by=field)),
        ):
            told = rf"ordered by '{field}': .*create_payload_index\(collection, '{field}', 'float'"
            with pytest.raises(InvalidRequest, match=told):
                ask(field)


def test_an_order_has_no_offset(client: QdrantBase, name: str) -> None:
    with pytest.raises(StoreError):
        call(lambda: client.scroll(name, order_by="n", offset=3), what="scroll")


def test_only_the_vectors_that_are_asked_for_are_read(client: QdrantBase, name: str) -> None:
    def read(asked: Any) -> Any:
        return client.retrieve(name, [3], with_payload=False, with_vectors=asked)[0].vector

    assert read(True) == {"": [3.0, 0.0], "a": [0.0, 3.0]}
    assert read(["a"]) == {"a": [0.0, 3.0]}
    assert read([""]) == [3.0, 0.0]
    assert read(["text", "a"]) == {"a": [0.0, 3.0]}
    assert read(False) is None
    assert client.scroll(name, limit=2, with_vectors=["a"])[0][1].vector == {"a": [0.0, 1.0]}


def test_only_the_fields_that_are_asked_for_are_read(client: QdrantBase, name: str) -> None:
    def read(asked: Any) -> Any:
        return client.retrieve(name, [3], with_payload=asked)[0].payload

    assert read(["n", "odd"]) == {"n": 0, "odd": True}
    assert read(models.PayloadSelectorExclude(exclude=["many", "at", "x"])) == {"n": 0, "odd": True}
    assert read(False) is None


@pytest.mark.parametrize("wrong", ["n", 5, {"n": True}])
def test_what_selects_no_part_of_a_point_is_refused(edge_client: EdgeClient, wrong: Any) -> None:
    edge_client.create_collection("c", DOT)
    for use in (
        lambda: edge_client.retrieve("c", [1], with_payload=wrong),
        lambda: edge_client.scroll("c", with_vectors=wrong),
    ):
        with pytest.raises(InvalidRequest, match=r"with_(payload|vectors) is True, False"):
            use()


def test_a_page_without_a_limit_has_ten_points(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", DOT)
    edge_client.upsert("c", [models.PointStruct(id=i, vector=[1.0, 2.0]) for i in range(12)])

    records, following = edge_client.scroll("c", limit=None)
    assert (len(records), following) == (10, 10)
