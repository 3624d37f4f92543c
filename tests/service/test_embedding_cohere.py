"""/v2/embed as Cohere's own client uses it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import numpy as np
import pytest
from cohere.core.api_error import ApiError
from embedding_clients import WordEmbedder, data_url, image_rows, text_rows

from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    yield Service(connect(":memory:"), WordEmbedder())


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[cohere.ClientV2]:
    with httpx.Client(timeout=60) as connections:
        yield cohere.ClientV2(api_key="none", base_url=url, httpx_client=connections)


def embed(client: cohere.ClientV2, **arguments: Any) -> Any:
    given: dict[str, Any] = {"model": "clip-qdrant", "input_type": "search_query", "embedding_types": ["float"]}
    return client.embed(**{**given, **arguments})


@pytest.mark.parametrize("input_type", ["search_query", "search_document", "classification"])
def test_texts_get_the_vectors_of_a_search_whatever_they_are_for(client: cohere.ClientV2, input_type: str) -> None:
    answer = embed(client, texts=["a red dog", "blue"], input_type=input_type)

    np.testing.assert_allclose(answer.embeddings.float_, text_rows("a red dog", "blue"), atol=1e-6)
    assert answer.texts == ["a red dog", "blue"]
    assert answer.meta.billed_units.input_tokens == 4


def test_images_and_inputs_of_both(client: cohere.ClientV2) -> None:
    images = embed(client, images=[data_url("red"), data_url("blue")], input_type="image")
    part = {"type": "image_url", "image_url": {"url": data_url("red")}}
    inputs = embed(client, inputs=[{"content": [part]}, {"content": [{"type": "text", "text": "a dog"}, part]}])

    np.testing.assert_allclose(images.embeddings.float_, image_rows("red", "blue"), atol=1e-6)
    assert images.meta.billed_units.images == 2
    total = image_rows("red")[0] + text_rows("a dog")[0]
    expected = [image_rows("red")[0], total / np.linalg.norm(total)]
    np.testing.assert_allclose(inputs.embeddings.float_, expected, atol=1e-6)


def test_formats_of_which_there_may_be_several(client: cohere.ClientV2) -> None:
    answer = embed(client, texts=["red"], embedding_types=["float", "base64", "binary", "ubinary"])
    expected = text_rows("red")

    raw = base64.b64decode(answer.embeddings.base64[0])
    np.testing.assert_allclose([np.frombuffer(raw, "<f4")], expected, atol=1e-6)
    np.testing.assert_array_equal(answer.embeddings.ubinary, np.packbits(expected > 0, axis=1))
    np.testing.assert_array_equal(answer.embeddings.binary, np.packbits(expected > 0, axis=1).astype(int) - 128)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ({"texts": ["red"], "model": "embed-v4.0"}, 404, "the model 'embed-v4.0' is not served here"),
        (
            {"texts": ["red"], "output_dimension": 256},
            400,
            "output_dimension is 256: the vectors of this model have 16",
        ),
        ({"texts": ["red"], "embedding_types": ["int8"]}, 400, "embedding_types.0: Input should be 'float'"),
        ({"texts": ["red"], "truncate": "NONE"}, 400, "truncate: Input should be 'END'"),
        ({"texts": ["red"], "images": [data_url("red")]}, 400, "give one of texts, images and inputs"),
        ({"images": ["data:image/png;base64,!"]}, 422, "input 0: "),
        ({"inputs": [{"content": [{"type": "text"}]}]}, 400, "has the type 'text' and no member text"),
    ],
)
def test_the_client_is_told_what_is_wrong(client: cohere.ClientV2, arguments: Any, status: int, message: str) -> None:
    with pytest.raises(ApiError) as told:
        embed(client, **arguments)

    assert told.value.status_code == status
    assert message in told.value.body["message"]
