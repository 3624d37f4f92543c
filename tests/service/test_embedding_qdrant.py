"""A Qdrant server has its documents and images embedded by the service: then its clients need no model."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from embedding_clients import WordEmbedder, data_url, image_rows, png, text_rows
from inferring_qdrant import run_inferring_qdrant
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse
from running_service import run_app

from clip_qdrant import ImageCollection
from clip_qdrant.service.app import create_app
from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect

COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    yield Service(connect(":memory:"), WordEmbedder())


@pytest.fixture(scope="module")
def server(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_inferring_qdrant(tmp_path_factory.mktemp("qdrant"), f"{url}/inference") as server:
        yield server


@pytest.fixture(scope="module")
def qdrant(server: str) -> Iterator[QdrantClient]:
    """The official client, which leaves embedding to the server."""
    client = QdrantClient(url=server, cloud_inference=True, check_compatibility=False)
    yield client
    client.close()


def use_documents_and_images(qdrant: QdrantClient, name: str) -> None:
    """Stores images as images and searches them by a text, with the client of Qdrant alone."""
    dim = WordEmbedder().dim
    qdrant.create_collection(name, models.VectorParams(size=dim, distance=models.Distance.COSINE))
    points = [
        models.PointStruct(id=number, vector=models.Image(image=data_url(colour), model="clip-qdrant"))
        for number, colour in enumerate(COLOURS)
    ]
    qdrant.upsert(name, points, wait=True)
    by_text = qdrant.query_points(name, models.Document(text="green", model="clip-qdrant"), limit=2, with_vectors=True)
    by_image = qdrant.query_points(
        name, models.Image(image=base64.b64encode(png("blue")).decode(), model="clip-qdrant"), limit=1
    )

    assert by_text.points[0].id == 1
    np.testing.assert_allclose(by_text.points[0].vector, image_rows("green")[0], atol=1e-5)
    assert by_text.points[0].score == pytest.approx(float(image_rows("green")[0] @ text_rows("green")[0]), abs=1e-4)
    assert (by_image.points[0].id, round(by_image.points[0].score, 3)) == (2, 1)


def test_the_client_of_qdrant_stores_images_and_searches_them_by_texts(qdrant: QdrantClient) -> None:
    use_documents_and_images(qdrant, "plain")


def test_hits_and_scores_are_those_of_a_search_with_the_model_at_hand(qdrant: QdrantClient) -> None:
    images = ImageCollection("photos", WordEmbedder(), qdrant)
    images.add([png(colour) for colour in COLOURS], uris=[f"file:///{colour}.png" for colour in COLOURS])
    for text in ("a red dog", "yellow"):
        expected = images.search(text)
        found = qdrant.query_points("photos", models.Document(text=text, model="clip-qdrant")).points

        assert [point.id for point in found] == [hit.id for hit in expected]
        np.testing.assert_allclose([point.score for point in found], [hit.score for hit in expected], atol=1e-5)


def test_plain_http_does_it_from_any_language(qdrant: QdrantClient, server: str) -> None:
    qdrant.create_collection("http", models.VectorParams(size=16, distance=models.Distance.COSINE))
    points = f"{server}/collections/http/points"
    image = {"image": data_url("red"), "model": "clip-qdrant"}
    stored = httpx.put(points, params={"wait": "true"}, json={"points": [{"id": 7, "vector": image}]}, timeout=60)
    found = httpx.post(f"{points}/query", json={"query": {"text": "red", "model": "clip-qdrant"}}, timeout=60).json()

    assert stored.status_code == 200
    assert [point["id"] for point in found["result"]["points"]] == [7]


def test_the_client_is_told_what_is_wrong(qdrant: QdrantClient) -> None:
    for query, message in (
        (models.Document(text="red", model="bge-small"), "the model 'bge-small' is not served here"),
        (models.Image(image="AAAA", model="clip-qdrant"), "input 0: the image"),
        (models.Document(text=" ", model="clip-qdrant"), "input 0: the query text ' ' is empty"),
    ):
        with pytest.raises(UnexpectedResponse, match="Inference request validation failed") as told:
            qdrant.query_points("plain", query)
        assert told.value.status_code == 400
        assert message in told.value.content.decode()


def infer(http: httpx.Client, *inputs: dict[str, Any], **more: Any) -> httpx.Response:
    return http.post("/inference", json={"inputs": list(inputs), "inference": "search", "token": None, **more})


def test_the_answer_is_what_the_server_reads(http: httpx.Client) -> None:
    text = {"data": "a red dog", "data_type": "text", "model": "clip-qdrant", "options": None}
    image = {"data": data_url("blue"), "data_type": "image", "model": "clip-qdrant", "options": {}}
    both = {"data": {"text": "a red dog", "image": data_url("blue")}, "data_type": "object", "model": "clip-qdrant"}
    told = infer(http, text, image, both).json()

    total = text_rows("a red dog")[0] + image_rows("blue")[0]
    expected = [text_rows("a red dog")[0], image_rows("blue")[0], total / np.linalg.norm(total)]
    np.testing.assert_allclose(told["embeddings"], expected, atol=1e-6)
    assert told["usage"] == {"models": {"clip-qdrant": {"tokens": 6}}}
    assert infer(http).json() == {"embeddings": [], "usage": None}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"data": 3, "data_type": "text", "model": "clip-qdrant"}, "an input of the type 'text' is a text or an image"),
        ({"data": {"x": 1}, "data_type": "object", "model": "clip-qdrant"}, "an object with the members text or image"),
        ({"data": "x", "data_type": "video", "model": "clip-qdrant"}, "inputs.0.data_type: Input should be"),
        ({"data": "http://127.0.0.1:1/x.png", "data_type": "image", "model": "clip-qdrant"}, "input 0: "),
    ],
)
def test_errors_are_bad_requests_whose_text_the_server_hands_on(
    http: httpx.Client, wrong: dict[str, Any], message: str
) -> None:
    answer = infer(http, wrong)

    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_a_real_server_does_it_too(server_url: str) -> None:
    port = os.environ.get("CLIP_QDRANT_TEST_INFERENCE_PORT")
    if port is None:
        pytest.skip("CLIP_QDRANT_TEST_INFERENCE_PORT is not set: the port that inference.address of the server names")
    with run_app(create_app(Service(connect(":memory:"), WordEmbedder())), port=int(port)):
        client = QdrantClient(url=server_url, cloud_inference=True, check_compatibility=False)
        try:
            use_documents_and_images(client, "inference-test")
        finally:
            client.delete_collection("inference-test")
            client.close()
