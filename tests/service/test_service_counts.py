"""Facets, histograms and labels over HTTP are those of the collection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served_photos import NAME, add_photos, png, uri_of

from clip_qdrant import Query, errors
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.service import Client
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service

COLOURS = {"red": ["red", "a red photo"], "blue": "blue", "other": "green"}


@pytest.fixture(scope="module")
def options() -> ServiceOptions:
    return ServiceOptions(max_query_length=200)  # of which the collection is "images"


@pytest.fixture(scope="module")
def photos(service: Service) -> ImageCollection:
    return add_photos(service.client, service.embedder)


@pytest.fixture(scope="module")
def client(url: str, photos: ImageCollection) -> Iterator[Client]:
    with Client(url, collection=NAME, patience=0) as client:
        yield client


def test_images_are_counted(client: Client, photos: ImageCollection) -> None:
    assert len(client) == client.count() == len(photos)
    assert client.count("album = 'pets'") == client.count({"album": "pets"}) == photos.count("album = 'pets'")


@pytest.mark.parametrize(
    ("selected", "asked"),
    [
        ({"album": []}, {}),
        ({"album": ["pets", "nothing"], "year": [2021], "taken_at.month": []}, {"where": "caption exists"}),
        ({"year": []}, {"limit": 2, "where": {"album": "pets"}}),
        ({"good": [True]}, {}),
    ],
)
def test_facets_are_those_of_the_collection(client: Client, photos: ImageCollection, selected: Any, asked: Any) -> None:
    found, expected = client.facets(selected, **asked), photos.facets(selected, **asked)

    assert found == expected
    for field, values in expected.items():
        assert (found[field].more_values, found[field].more_images) == (values.more_values, values.more_images)
    field = next(iter(selected))
    assert client.facet(field) == photos.facet(field)


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("taken_at", {"by": "month"}),
        ("taken_at", {"where": "album = 'pets'"}),
        ("stars", {"bins": 3}),
        ("year", {"edges": [2021, 2022.5, 2023]}),
        ("image.width", {}),
    ],
)
def test_histograms_are_those_of_the_collection(
    client: Client, photos: ImageCollection, field: str, asked: Any
) -> None:
    found, expected = client.histogram(field, **asked), photos.histogram(field, **asked)

    assert found == expected
    assert (found.missing, found.outside) == (expected.missing, expected.outside)


def test_images_are_labelled(client: Client, photos: ImageCollection, http: httpx.Client) -> None:
    expected = photos.classify(COLOURS, where="year >= 2021")
    named: list[Any] = []
    photos.classify(COLOURS, where="year >= 2021", on_image=named.append)

    assert client.classify(COLOURS, where="year >= 2021") == expected
    body = {"collection": NAME, "labels": COLOURS, "where": "year >= 2021", "images": 3}
    assert http.post("/v1/classify", json=body).json()["images"] == [
        {"uri": one.uri, "label": one.label, "score": one.score} for one in named[:3]
    ]


def test_a_label_is_kept_in_a_field(client: Client, photos: ImageCollection) -> None:
    found = client.classify(COLOURS, write="label")

    assert sum(found.counts.values()) == len(photos)
    assert photos.count("label = 'red'") == found.counts["red"] > 0
    assert client.classify(COLOURS, write="metadata.label").left_alone == len(photos)
    assert client.classify(COLOURS, write="label", again=True).left_alone == 0


def test_images_that_are_not_stored_are_compared_with_labels(
    client: Client, photos: ImageCollection, http: httpx.Client
) -> None:
    named = client.classify_images([png("red"), Query.id(uri_of("blue")), Query.text("green")], COLOURS)
    files = [("image", ("a.png", png("blue"))), ("image", ("b.png", png("red")))]
    form = http.post("/v1/classify/images", data={"request": json.dumps({"labels": COLOURS})}, files=files).json()

    assert [next(iter(scores)) for scores in named] == ["red", "blue", "other"]
    assert all([*scores.values()] == sorted(scores.values(), reverse=True) for scores in named)
    assert [next(iter(scores)) for scores in form["images"]] == ["blue", "red"]
    assert client.classify_images([], COLOURS) == []
    answer = http.post("/v1/classify/images", json={"labels": COLOURS})
    assert (answer.status_code, "there are no images" in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("facets", {"fields": {}}, 422, "fields"),
        ("facets", {"fields": ["album"]}, 422, "fields"),
        ("facets", {"fields": {"album": "pets"}}, 422, "album"),
        ("facets", {"fields": {"albun": []}}, 400, "did you mean album"),
        ("facets", {"fields": {"stars": []}}, 400, "histogram"),
        ("facets", {"fields": {"album": []}, "limit": 0}, 422, "limit"),
        ("facets", {"fields": {"album": []}, "where": "x" * 201}, 413, "200 are the most"),
        ("histogram", {"field": "album"}, 400, "numbers or dates"),
        ("histogram", {"field": "stars", "by": "month"}, 400, "numbers"),
        ("histogram", {"field": "stars", "bins": 2, "edges": [0, 1]}, 400, "one of them"),
        ("histogram", {"field": "stars", "edges": [1, 0]}, 400, "edges"),
        ("histogram", {"field": "stars", "edges": [0]}, 422, "edges"),
        ("histogram", {"field": "stars", "by": "week"}, 422, "by"),
        ("classify", {"labels": {"a": "a"}}, 422, "labels"),
        ("classify", {"labels": {"a": "a", "b": []}}, 422, "labels"),
        ("classify", {"labels": {"a": "a", "b": " "}}, 400, "empty"),
        ("classify", {"labels": {"a": "a", "b": "b" * 201}}, 413, "200 are the most"),
        ("classify", {"labels": {"a": "a", "b": "b"}, "write": "uri"}, 400, "metadata field"),
        ("classify", {"labels": {"a": "a", "b": "b"}, "min_relevance": 0.5}, 400, "calibration"),
    ],
)
def test_what_is_wrong_is_told(
    http: httpx.Client, photos: ImageCollection, path: str, body: dict[str, Any], status: int, told: str
) -> None:
    answer = http.post(f"/v1/{path}", json={"collection": NAME, **body})

    assert answer.status_code == status, answer.text
    assert told in answer.json()["detail"]


def test_another_collection_is_told_to_be_missing(url: str) -> None:
    with Client(url, patience=0) as client, pytest.raises(errors.CollectionNotFound, match="images"):
        client.facet("album")
