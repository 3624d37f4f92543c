"""Searches over HTTP: a client gives what the collection itself gives, whatever is asked; what is wrong is told."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fakes import solid_image, write_image
from served_photos import NAME, add_photos, png, uri_of
from web import WebSite

from clip_qdrant import Query, errors
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.service import Client
from clip_qdrant.service.bodies.search import OptionsBody
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service

RED = png("red")
SAME = ("search", "search_batch", "recommend", "discover", "count", "facet", "facets", "histogram")


@pytest.fixture(scope="module")
def options() -> ServiceOptions:
    return ServiceOptions(collection=NAME, max_batch=8, max_query_length=200, max_hits=50, allow_private=True)


@pytest.fixture(scope="module")
def photos(service: Service) -> ImageCollection:
    """The collection itself."""
    return add_photos(service.client, service.embedder)


@pytest.fixture(scope="module")
def client(url: str, photos: ImageCollection) -> Iterator[Client]:
    with Client(url, patience=0) as client:
        yield client


ASKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a text": ("red", {}),
    "no query": (None, {"limit": 4, "offset": 2}),
    "an image": (RED, {"limit": 3}),
    "pixels": (np.asarray(solid_image("blue")), {"limit": 3}),
    "a picture": (solid_image("green"), {"limit": 3}),
    "a part of an image": (Query.image(RED, box=(0, 0, 8, 8)), {"limit": 3}),
    "a stored image": (Query.id(uri_of("red")), {}),
    "a vector": (np.eye(16, dtype=np.float32)[0], {"limit": 3}),
    "a sum": (Query.text("red") + 0.5 * Query.image(png("blue")) - 0.25 * Query.text("green"), {"explain": True}),
    "a raw text": (Query.text("red", raw=True), {}),
    "a where text": ("red", {"where": "album = 'pets' and year >= 2021"}),
    "a where dict": ("red", {"where": {"album": ["pets", "sea"], "year": {">=": 2021}}}),
    "a page": ("red", {"limit": 2, "offset": 3}),
    "a threshold": ("red", {"score_threshold": 0.9}),
    "a threshold that nothing passes": ("red", {"score_threshold": 1.0, "where": "year = 2021"}),
    "words too": ("blue boat", {"text": True, "text_fields": {"caption": 1, "album": 0.5}, "text_weight": 0.6}),
    "other words": ("red", {"text": "hills", "fusion": "rrf"}),
    "words alone": (None, {"text": "green"}),
    "an order": (None, {"order_by": "-taken_at"}),
    "an order of the best": ("red", {"order_by": "year", "candidates": 4}),
    "diversity": ("red", {"diversity": 0.7, "candidates": 5, "limit": 3}),
    "near-duplicates": ("red", {"collapse": "bytes"}),
    "groups": ("red", {"group_by": "album", "group_size": 2}),
    "an exact search": ("red", {"exact": True}),
    "how far to look": ("red", {"ef": 64, "rescore": True, "oversampling": 2.0}),
    "no payload": ("red", {"payload": False}),
    "some payload": ("red", {"payload": ["album", "caption"]}),
    "vectors": ("red", {"vectors": True, "limit": 2}),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_client_gives_what_the_collection_gives(client: Client, photos: ImageCollection, name: str) -> None:
    query, options = ASKED[name]

    found, expected = client.search(query, **options), photos.search(query, **options)

    assert found == expected
    assert (found.reason, found.groups) == (expected.reason, expected.groups)
    assert (found.explanation is None) == (expected.explanation is None)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.payload == theirs.payload
        assert (mine.vector is None) == (theirs.vector is None)
        assert mine.vector is None or np.array_equal(mine.vector, theirs.vector)


def test_the_cases_use_every_option() -> None:
    used = {option for _, options in ASKED.values() for option in options}

    assert {*SearchOptions.__dataclass_fields__} - used == {"min_relevance"}  # the fake embedder is not calibrated


def test_the_service_takes_every_option_of_a_search() -> None:
    usual = SearchOptions()

    assert {*OptionsBody.model_fields} == {*SearchOptions.__dataclass_fields__}
    assert OptionsBody().options() == usual


@pytest.mark.parametrize(
    "name", ["search", "search_batch", "recommend", "discover", "count", "facet", "facets", "histogram"]
)
def test_a_method_of_the_client_is_called_as_that_of_the_collection(name: str) -> None:
    mine, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (Client, ImageCollection))

    assert [(one.name, one.kind, one.default) for one in mine.values()] == [
        (one.name, one.kind, one.default) for one in theirs.values()
    ]


def test_several_searches_go_in_one_request(client: Client, photos: ImageCollection, service: Service) -> None:
    queries = ["red", Query.text("blue") - 0.5 * Query.text("red"), RED]
    options = SearchOptions(limit=2)

    found = client.search_batch(queries, where="year >= 2021", options=options)

    assert found == photos.search_batch(queries, where="year >= 2021", options=options)
    assert client.search_batch([]) == []


@pytest.mark.parametrize("strategy", ["average", "best", "sum"])
def test_examples_recommend(client: Client, photos: ImageCollection, strategy: Any) -> None:
    asked: Any = ([Query.id(uri_of("red")), "magenta"], ["blue"])

    found = client.recommend(*asked, strategy=strategy, where="year >= 2020", options=SearchOptions(limit=4))

    assert found == photos.recommend(*asked, strategy=strategy, where="year >= 2020", options=SearchOptions(limit=4))
    assert uri_of("red") not in {hit.uri for hit in found}


def test_scores_by_examples_are_cut_at_any_number(client: Client, photos: ImageCollection) -> None:
    options = SearchOptions(score_threshold=1.2)
    context = [("red", "blue"), ("red", "green")]
    assert client.discover("red", context, options=options) == photos.discover("red", context, options=options) != []
    assert client.recommend(["red", "magenta"], strategy="sum", options=options) == photos.recommend(
        ["red", "magenta"], strategy="sum", options=options
    )
    with pytest.raises(errors.ClipQdrantError, match="score_threshold"):
        client.recommend(["red"], options=options)
    with pytest.raises(errors.ClipQdrantError, match="score_threshold"):
        client.search("red", score_threshold=1.2)


def test_a_context_discovers(client: Client, photos: ImageCollection) -> None:
    context: Any = [("red", "blue"), (Query.id(uri_of("yellow")), "cyan")]

    assert client.discover("magenta", context) == photos.discover("magenta", context)
    assert client.discover(None, context) == photos.discover(None, context)


def test_a_file_of_the_caller_is_sent(client: Client, photos: ImageCollection, tmp_path: Path) -> None:
    path = write_image(tmp_path / "red.png", "red")

    assert client.search(path, limit=2) == photos.search(path, limit=2)


def test_an_image_of_the_web_is_fetched_by_the_service(client: Client, photos: ImageCollection) -> None:
    site = WebSite()
    site.pages["/red.png"] = RED
    with site.running():
        found = client.search({"url": f"{site.url}/red.png"}, limit=2)

        with pytest.raises(errors.SourceError, match="404"):
            client.search([{"text": "red"}, {"url": f"{site.url}/none.png"}])

    assert found == photos.search(RED, limit=2)


@pytest.mark.parametrize("fields", [{}, {"request": json.dumps({"limit": 2, "where": "year >= 2021"})}])
def test_an_uploaded_file_is_the_query(http: httpx.Client, photos: ImageCollection, fields: dict[str, str]) -> None:
    answer = http.post("/v1/search", data=fields, files={"image": ("red.png", RED)})

    options = json.loads(fields.get("request", "{}"))
    assert answer.json() == photos.search(RED, **options).to_dict()


def test_uploads_are_named_by_terms_and_the_others_are_added(http: httpx.Client, photos: ImageCollection) -> None:
    body = {"query": [{"text": "green"}, {"upload": 1, "weight": -0.5, "box": [0, 0, 4, 4]}], "limit": 3}
    files = [("image", ("a.png", RED)), ("image", ("b.png", png("blue")))]

    answer = http.post("/v1/search", data={"request": json.dumps(body)}, files=files)

    query = Query.text("green") - 0.5 * Query.image(png("blue"), box=[0, 0, 4, 4]) + Query.image(RED)
    assert answer.json() == photos.search(query, limit=3).to_dict()


def test_a_file_that_nothing_is_done_with_is_refused(http: httpx.Client, photos: ImageCollection) -> None:
    files = [("image", ("a.png", RED)), ("image", ("b.png", png("blue")))]
    for path, body, status in (
        ("/v1/search/batch", {"queries": [{"upload": 1}]}, 400),
        ("/v1/search/batch", {"queries": [{"upload": 1}, {"upload": 0}]}, 200),
        ("/v1/recommend", {"positive": [{"upload": 0}]}, 400),
        ("/v1/recommend", {"positive": [{"upload": 0}], "negative": [{"upload": 1}]}, 200),
        ("/v1/discover", {"context": [{"near": {"upload": 0}, "far": "blue"}]}, 400),
        ("/v1/discover", {"context": [{"near": {"upload": 0}, "far": {"upload": 1}}]}, 200),
        ("/v1/classify", {"labels": {"a": "red", "b": "blue"}}, 422),
    ):
        answer = http.post(path, data={"request": json.dumps(body)}, files=files)
        assert answer.status_code == status, (path, answer.text)
        assert status != 400 or "is named by no term" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("data", "files", "status", "told"),
    [
        ({"request": "{"}, [("image", ("a", RED))], 422, "JSON decode error"),
        ({"request": '{"limits": 3}'}, [("image", ("a", RED))], 422, "limits"),
        (
            {"request": '{"query": {"upload": 1}}'},
            [("image", ("a", RED))],
            400,
            "there is no upload 1: the request has 1",
        ),
        ({"limit": "3"}, [("image", ("a", RED))], 422, "limit is not there"),
        ({"image": "red"}, [("image", ("a", RED))], 422, "image is no file"),
        ({}, [("file", ("a", RED))], 422, "file is not there"),
        ({}, [("image", ("a", b"text"))], 422, "image"),
        ({}, [("image", ("a", b""))], 422, "image"),
        ({}, [("image", (f"{number}", RED)) for number in range(9)], 413, "8"),
        ({}, [("image", (f"{number}", RED)) for number in range(40)], 400, "files"),
    ],
)
def test_a_form_that_is_wrong_is_told_so(
    http: httpx.Client, photos: ImageCollection, data: Any, files: Any, status: int, told: str
) -> None:
    answer = http.post("/v1/search", data=data, files=files)

    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert told in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"quary": "red"}, 422, "body.quary: there is no such member"),
        ({"query": ""}, 422, "query"),
        ({"query": " "}, 400, "empty"),
        ({"query": []}, 422, "query"),
        ({"query": 5}, 422, "query"),
        ({"query": {"text": "red", "image": "AAAA"}}, 422, "it has text and image"),
        ({"query": {"weight": 2}}, 422, "body.query.term: a term takes exactly one of text, image"),
        ({"query": {"text": "red", "box": [0, 0, 1, 1]}}, 422, "box is a part of an image"),
        ({"query": {"id": "x", "raw": True}}, 422, "raw is for a text"),
        ({"query": {"id": "https://nowhere/a.png"}}, 400, "no stored image"),
        ({"query": {"image": "not base64!"}}, 422, "base64"),
        ({"query": {"image": base64.b64encode(b"text").decode()}}, 422, "not"),
        ({"query": {"image": base64.b64encode(RED).decode(), "box": [0, 0, 99, 99]}}, 400, "beyond the image"),
        ({"query": {"image": base64.b64encode(RED).decode(), "box": [0, 0]}}, 422, "box"),
        ({"query": {"upload": 0}}, 400, "there is no upload 0: the request has 0"),
        ({"query": {"vector": [1.0, 0.0]}}, 400, "16"),
        ({"query": {"vector": [0.0] * 16}}, 400, "zero"),
        ({"query": {"url": "file:///etc/passwd"}}, 422, "only http and https"),
        ({"query": [{"text": "red"}, {"text": "red", "weight": -1}]}, 400, "cancel"),
        ({"query": "x" * 201}, 413, "200 are the most"),
        ({"query": "red", "text": "x" * 201}, 413, "200 are the most"),
        ({"query": "red", "where": "year = 1 or " * 40 + "year = 1"}, 413, "200 are the most"),
        ({"query": ["red"] * 9}, 413, "8"),
        ({"query": "red", "limit": 0}, 422, "limit"),
        ({"query": "red", "limit": "5"}, 422, "limit"),
        ({"query": "red", "limit": 51}, 400, "50 are the most"),
        ({"query": "red", "offset": 41}, 400, "50 are the most"),
        ({"query": "red", "group_by": "album", "group_size": 6}, 400, "60 hits"),
        ({"query": "red", "diversity": 0.5, "group_by": "album"}, 400, "give one of them"),
        ({"query": "red", "min_relevance": "auto"}, 400, "calibration"),
        ({"query": "red", "where": "yaer > 2020"}, 400, "did you mean year"),
        ({"query": "red", "where": {"year": {"~": 3}}}, 400, "year"),
        ({"query": "red", "collection": "nothing"}, 404, "nothing"),
    ],
)
def test_a_request_that_is_wrong_is_told_so(
    http: httpx.Client, photos: ImageCollection, body: Any, status: int, told: str
) -> None:
    answer = http.post("/v1/search", json=body)

    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    assert told in answer.json()["detail"]


def test_text_that_is_no_unicode_is_refused(http: httpx.Client, photos: ImageCollection) -> None:
    for body in (r'{"query": "\ud800"}', r'{"where": "\ud800 = 1"}', r'{"where": {"\ud800": 1}}', r'{"\ud800": 1}'):
        answer = http.post("/v1/search", content=body, headers={"Content-Type": "application/json"})

        assert answer.status_code in (400, 422), answer.text


def test_errors_are_those_of_the_library(client: Client, photos: ImageCollection) -> None:
    for query, where in (("red", "yaer > 2020"), ("red", "year ~ 3"), (Query.id("https://nowhere/a.png"), None)):
        with pytest.raises(errors.ClipQdrantError) as expected:
            photos.search(query, where=where)
        with pytest.raises(type(expected.value)) as told:
            client.search(query, where=where)
        assert str(told.value) == str(expected.value)
        assert getattr(told.value, "column", None) == getattr(expected.value, "column", None)


def test_async_code_has_the_same(client: Client, photos: ImageCollection) -> None:
    assert asyncio.run(client.asearch("red", limit=2)) == photos.search("red", limit=2)
