"""Circles, boxes and polygons find with an index what they find without one, at the edges of the map too."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_client import models

from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient

_RANDOM = random.Random(5)


def _draw() -> tuple[float, float]:
    lat = _RANDOM.choice([90.0, -90.0, 89.9999, -89.9999, 0.0, 45.0, _RANDOM.uniform(-90, 90), _RANDOM.uniform(85, 90)])
    return lat, _RANDOM.choice([180.0, -180.0, 179.9999, -179.9999, 0.0, 90.0, *(_RANDOM.uniform(-180, 180),) * 3])


PLACES = [(90.0, 0.0), (90.0, 25.0), (-90.0, 10.0), *(_draw() for _ in range(150))]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeClient]:
    with connect(tmp_path_factory.mktemp("places")) as client:
        assert isinstance(client, EdgeClient)
        client.create_collection("c", vectors_config=models.VectorParams(size=1, distance=models.Distance.DOT))
        points = [
            models.PointStruct(
                id=i, vector=[1.0], payload={key: {"lat": lat, "lon": lon} for key in ("indexed", "plain")}
            )
            for i, (lat, lon) in enumerate(PLACES)
        ]
        client.upsert("c", points)
        client.create_payload_index("c", "indexed", models.PayloadSchemaType.GEO)
        yield client


def find(client: EdgeClient, field: str, **condition: Any) -> set[tuple[float, float]]:
    wanted = models.Filter(must=[models.FieldCondition(key=field, **condition)])
    return {PLACES[point.id] for point in client.query_points("c", query_filter=wanted, limit=1000).points}


def point(lat: float, lon: float) -> models.GeoPoint:
    return models.GeoPoint(lat=lat, lon=lon)


def circle(lat: float, lon: float, metres: float) -> dict[str, Any]:
    return {"geo_radius": models.GeoRadius(center=point(lat, lon), radius=metres)}


def box(north: float, south: float, west: float, east: float) -> dict[str, Any]:
    return {"geo_bounding_box": models.GeoBoundingBox(top_left=point(north, west), bottom_right=point(south, east))}


def polygon(*corners: tuple[float, float]) -> dict[str, Any]:
    ring = models.GeoLineString(points=[point(*one) for one in (*corners, corners[0])])
    return {"geo_polygon": models.GeoPolygon(exterior=ring)}


@pytest.mark.parametrize(
    "condition",
    [
        circle(90, 0, 1000),
        circle(89.99, 140, 2000),
        circle(0, 0, 10_100_000),
        box(90, 80, -20, 20),
        box(90, -90, -180, 180),
        polygon((80, -20), (90, -20), (90, 20), (80, 20)),
    ],
)
def test_the_north_pole_is_found(client: EdgeClient, condition: dict[str, Any]) -> None:
    for field in ("indexed", "plain"):
        assert {(90.0, 0.0), (90.0, 25.0)} <= find(client, field, **condition)


def test_the_south_pole_is_found(client: EdgeClient) -> None:
    for condition in (circle(-90, 0, 1000), box(-80, -90, -20, 20)):
        for field in ("indexed", "plain"):
            assert (-90.0, 10.0) in find(client, field, **condition)


def test_a_place_that_ends_before_the_pole_does_not_find_it(client: EdgeClient) -> None:
    for condition in (circle(89.9, 0, 10_000), box(89.99995, 80, -20, 20), polygon((80, -20), (89.9, 0), (80, 20))):
        for field in ("indexed", "plain"):
            assert not {lat for lat, _ in find(client, field, **condition)} & {90.0, -90.0}


def test_the_index_finds_what_a_look_at_each_point_finds(client: EdgeClient) -> None:
    for _ in range(80):
        (north, west), (south, east) = sorted([_draw(), _draw()], reverse=True)
        radius = _RANDOM.choice([1.0, 1e3, 1e5, 1e6, 5e6, 1.9e7, 2.1e7])
        for condition in (circle(north, west, radius), box(north, south, west, east)):
            assert find(client, "indexed", **condition) == find(client, "plain", **condition), condition
    for _ in range(25):
        corners = [_draw() for _ in range(3)]
        assert find(client, "indexed", **polygon(*corners)) == find(client, "plain", **polygon(*corners)), corners


def test_a_box_of_the_whole_earth_has_all_but_what_lies_on_its_sides(client: EdgeClient) -> None:
    inside = {(lat, lon) for lat, lon in PLACES if abs(lon) < 180 or abs(lat) == 90}

    assert find(client, "indexed", **box(90, -90, -180, 180)) == inside
