"""A score threshold includes the scores that equal it, whatever float32 makes of them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from qdrant_client import models

from clip_qdrant.errors import StoreError
from clip_qdrant.store.edge.client import EdgeClient


def fill(client: EdgeClient, distance: models.Distance, vectors: list[list[float]]) -> None:
    params = models.VectorParams(size=len(vectors[0]), distance=distance)
    client.create_collection("c", vectors_config=params)
    client.upsert("c", [models.PointStruct(id=i, vector=vector) for i, vector in enumerate(vectors)])


def ids_of(answer: Any) -> set[Any]:
    return {point.id for point in answer.points}


def draw(size: int, number: int) -> list[list[float]]:
    generator = random.Random(size)
    return [[generator.gauss(0, 1) for _ in range(size)] for _ in range(number)]


@pytest.mark.parametrize("size", [3, 384, 1024])
def test_1_finds_the_identical_picture(edge_client: EdgeClient, size: int) -> None:
    vectors = draw(size, 30)
    fill(edge_client, models.Distance.COSINE, vectors)

    for i, vector in enumerate(vectors):
        assert ids_of(edge_client.query_points("c", query=vector, score_threshold=1.0)) == {i}
        assert ids_of(edge_client.query_points("c", query=[-value for value in vector], score_threshold=1.0)) == set()
    both = [models.Prefetch(query=vectors[4], score_threshold=1), models.Prefetch(query=vectors[5], score_threshold=1)]
    assert ids_of(edge_client.query_points("c", prefetch=both, query={"fusion": "rrf"})) == {4, 5}


@pytest.mark.parametrize("distance", [models.Distance.EUCLID, models.Distance.MANHATTAN])
def test_0_finds_the_identical_picture_by_its_distance(edge_client: EdgeClient, distance: models.Distance) -> None:
    vectors = draw(384, 20)
    fill(edge_client, distance, vectors)

    for i, vector in enumerate(vectors):
        assert ids_of(edge_client.query_points("c", query=vector, score_threshold=0)) == {i}


@pytest.mark.parametrize("distance", list(models.Distance))
def test_the_score_of_a_hit_as_threshold_finds_it_and_what_is_better(
    edge_client: EdgeClient, distance: models.Distance
) -> None:
    fill(edge_client, distance, draw(64, 25))
    query = draw(64, 26)[25]
    points = edge_client.query_points("c", query=query, limit=25).points

    for rank, point in enumerate(points, 1):
        found = edge_client.query_points("c", query=query, limit=25, score_threshold=point.score).points
        assert [one.id for one in found] == [one.id for one in points[:rank]]


def test_a_threshold_leaves_out_what_is_below_it(edge_client: EdgeClient) -> None:
    fill(edge_client, models.Distance.DOT, [[value] for value in (0.999, 1.0, 1.001)])

    assert ids_of(edge_client.query_points("c", query=[1.0], score_threshold=1)) == {1, 2}
    assert ids_of(edge_client.query_points("c", query=[-1.0], score_threshold=-1)) == {0, 1}


@pytest.mark.parametrize("threshold", [float("nan"), "x"])
def test_a_threshold_is_a_number(edge_client: EdgeClient, threshold: Any) -> None:
    fill(edge_client, models.Distance.DOT, [[1.0]])

    with pytest.raises(StoreError, match="score_threshold"):
        edge_client.query_points("c", query=[1.0], score_threshold=threshold)
