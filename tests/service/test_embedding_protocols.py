"""The endpoints of Voyage and Immich, and what all endpoints have in common."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from embedding_clients import WordEmbedder, data_url, image_rows, png, text_rows
from fakes import FakeEmbedder
from running_service import run_app
from web import Reply, WebSite

from clip_qdrant.images.load import Limits
from clip_qdrant.service.app import create_app
from clip_qdrant.service.embedding.model_names import list_model_names
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    options = ServiceOptions(
        model_names=list_model_names("open_clip:ViT-B-32/openai"), limits=Limits(max_bytes=20_000, max_pixels=10_000)
    )
    yield Service(connect(":memory:"), WordEmbedder(), options)


def test_voyage_sends_inputs_of_texts_and_images(http: httpx.Client) -> None:
    text = {"type": "text", "text": "a dog"}
    image = {"type": "image_base64", "image_base64": data_url("red", (30, 20))}
    inputs = [{"content": [text]}, {"content": [image]}, {"content": [text, image]}]
    told = http.post("/v1/multimodalembeddings", json={"model": "clip-qdrant", "inputs": inputs, "input_type": None})
    packed = http.post("/v1/multimodalembeddings", json={"inputs": inputs, "output_encoding": "base64"}).json()

    both = text_rows("a dog")[0] + image_rows("red")[0]
    expected = [text_rows("a dog")[0], image_rows("red")[0], both / np.linalg.norm(both)]
    np.testing.assert_allclose([one["embedding"] for one in told.json()["data"]], expected, atol=1e-6)
    assert told.json()["usage"] == {"text_tokens": 4, "image_pixels": 1200, "total_tokens": 4}
    raw = base64.b64decode(packed["data"][0]["embedding"])
    np.testing.assert_allclose(np.frombuffer(raw, "<f4"), expected[0], atol=1e-6)
    refused = http.post("/v1/multimodalembeddings", json={"inputs": inputs, "output_dimension": 256})
    assert refused.json() == {
        "detail": "output_dimension is 256: the vectors of this model have 16, and cannot be cut; leave it out"
    }


def predict(http: httpx.Client, entries: Any, **more: Any) -> httpx.Response:
    """As Immich's server: a form with everything in its parts."""
    written = entries if isinstance(entries, str) else json.dumps(entries)
    parts = {"entries": (None, written), **{name: ("blob", value) for name, value in more.items() if name == "image"}}
    texts = {name: (None, value) for name, value in more.items() if name == "text"}
    return http.post("/predict", files={**parts, **texts})


def test_immich_gets_vectors_as_text_and_the_size_of_an_image(http: httpx.Client) -> None:
    model = {"modelName": "ViT-B-32__openai", "options": {"language": "en"}}
    text = predict(http, {"clip": {"textual": model}}, text="a red dog").json()
    image = predict(http, {"clip": {"visual": model}}, image=png("blue", (30, 20))).json()

    assert http.get("/ping").text == "pong"
    np.testing.assert_allclose(json.loads(text["clip"]), text_rows("a red dog")[0], atol=1e-6)
    assert list(text) == ["clip"]
    np.testing.assert_allclose(json.loads(image["clip"]), image_rows("blue")[0], atol=1e-6)
    assert (image["imageHeight"], image["imageWidth"]) == (20, 30)


@pytest.mark.parametrize(
    ("entries", "status", "message"),
    [
        ({"clip": {"visual": {"modelName": "ViT-B-32__openai"}}}, 400, "the form has no image"),
        ({"clip": {"textual": {"modelName": "XLM"}}}, 404, "the model 'XLM' is not served here"),
        ({"ocr": {"detection": {"modelName": "x"}}}, 400, "the task 'ocr' of the type 'detection' is not done here"),
        ("{", 400, "are not those of Immich"),
        ({"clip": {"textual": {}}}, 400, "are not those of Immich"),
    ],
)
def test_immich_is_told_what_is_wrong(http: httpx.Client, entries: Any, status: int, message: str) -> None:
    answer = predict(http, entries, text="red")

    assert answer.status_code == status
    assert message in answer.json()["detail"]


def test_images_of_the_web_are_fetched_from_public_hosts_alone(http: httpx.Client, service: Service) -> None:
    with WebSite().running() as site:
        site.pages["/red.png"] = Reply(png("red"))
        address = f"{site.url}/red.png"
        refused = http.post("/v1/embeddings", json={"input": [address], "modality": "image"})
        allowing = ServiceOptions(allow_private=True)
        with run_app(create_app(Service(service.client, FakeEmbedder(), allowing))) as url:
            told = httpx.post(f"{url}/v1/embeddings", json={"input": [address], "modality": "image"}, timeout=60).json()
            text = httpx.post(f"{url}/v1/embeddings", json={"input": "red"}, timeout=60).json()
        requests = len(site.requests)

    assert refused.status_code == 422
    assert "input 0: " in refused.json()["error"]["message"]
    assert requests == 1  # of the second alone
    np.testing.assert_allclose(told["data"][0]["embedding"], image_rows("red")[0], atol=1e-6)
    assert told["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    assert text["usage"] is None  # this embedder does not count


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (data_url("red", (200, 100)), "input 1: the image has 200 x 100 pixels; the limit is 10000"),
        (f"data:image/png;base64,{'A' * 80_000}", "the limit is 20000"),
    ],
)
def test_an_image_over_the_limits_is_refused_with_its_place(http: httpx.Client, image: str, message: str) -> None:
    answer = http.post("/v1/embeddings", json={"input": ["red", image]})

    assert answer.status_code == 413
    assert message in answer.json()["error"]["message"]


def test_many_inputs_come_back_in_their_order(http: httpx.Client) -> None:
    colours = ["red", "green", "blue", "white", "cyan", "yellow"] * 6
    told = http.post("/v1/embeddings", json={"input": [data_url(colour) for colour in colours]}).json()

    np.testing.assert_allclose([one["embedding"] for one in told["data"]], image_rows(*colours), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("bundled", ("clip-qdrant-bundled", "clip-qdrant")),
        ("/srv/models/photos.pt", ("photos", "clip-qdrant")),
        (
            "hf:openai/clip-vit-base-patch32",
            ("openai/clip-vit-base-patch32", "hf:openai/clip-vit-base-patch32", "clip-qdrant"),
        ),
        (
            "open_clip:ViT-B-32/openai",
            ("ViT-B-32/openai", "open_clip:ViT-B-32/openai", "ViT-B-32__openai", "clip-qdrant"),
        ),
    ],
)
def test_a_model_is_known_by_its_names(model: str, names: tuple[str, ...]) -> None:
    assert list_model_names(model) == names
    assert list_model_names(model, ["mine", names[0]]) == (*names, "mine")
