"""Wrong arguments of queries and of the embedded client are typed errors that say what to give instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from clip_qdrant import Query, connect
from clip_qdrant.errors import ConfigError, InvalidPoint, QueryError, StoreError


@pytest.mark.parametrize("terms", ["x", None, ["x"], ("x",), 3])
def test_a_query_is_made_by_its_methods(terms: Any) -> None:
    with pytest.raises(QueryError, match=r"Query\.text"):
        Query(terms)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_stored_image_is_named_by_a_text_or_a_path(name: Any) -> None:
    with pytest.raises(QueryError, match="path or point id"):
        Query.id(name)


@pytest.mark.parametrize(("location", "timeout"), [(None, 10), (3, 10), ("http://localhost", None)])
def test_a_store_is_named_by_a_text_or_a_path(location: Any, timeout: Any) -> None:
    with pytest.raises(ConfigError):
        connect(location, timeout=timeout)


@pytest.fixture
def client(tmp_path: Path) -> Any:
    client = connect(tmp_path / "store")
    vectors = models.VectorParams(size=2, distance=models.Distance.COSINE)
    client.create_collection("c", vectors_config=vectors)
    yield client
    client.close()


def test_points_may_be_dicts_as_a_server_takes_them(client: Any) -> None:
    client.upsert("c", [{"id": 1, "vector": [1.0, 0.0], "payload": {"a": 1}}])

    assert client.retrieve("c", [1])[0].payload == {"a": 1}


@pytest.mark.parametrize("point", ["x", {"vector": [1.0, 0.0]}, {"id": 1}, None])
def test_what_is_no_point_is_told(client: Any, point: Any) -> None:
    with pytest.raises(InvalidPoint, match="is no point"):
        client.upsert("c", [point])


@pytest.mark.parametrize("limit", ["x", 0, 1.5])
def test_a_limit_is_a_whole_number(client: Any, limit: Any) -> None:
    for ask in (
        lambda: client.scroll("c", limit=limit),
        lambda: client.facet("c", key="a", limit=limit),
    ):
        with pytest.raises(StoreError, match="limit"):
            ask()


@pytest.mark.parametrize("limit", ["x", 0, 1.5, True, 2**64])
def test_the_limit_of_a_query_is_a_whole_number(client: Any, limit: Any) -> None:
    for ask in (
        lambda: client.query_points("c", query=[1.0, 0.0], limit=limit),
        lambda: client.query_points_groups("c", group_by="a", query=[1.0, 0.0], limit=limit),
        lambda: client.search_matrix_pairs("c", limit=limit),
    ):
        with pytest.raises(StoreError, match="limit"):
            ask()


def test_a_query_without_a_limit_gives_ten_points(client: Any) -> None:
    client.upsert("c", [models.PointStruct(id=i, vector=[1.0, i]) for i in range(1, 21)])

    assert len(client.query_points("c", query=[1.0, 0.0], limit=None).points) == 10
