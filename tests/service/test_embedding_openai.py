"""/v1/embeddings as OpenAI's own client uses it, and with the images of infinity, vLLM and Jina."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from embedding_clients import WordEmbedder, data_url, image_rows, png, text_rows

from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    options = ServiceOptions(model_names=("tiny-clip", "clip-qdrant"), max_batch=20)
    yield Service(connect(":memory:"), WordEmbedder(), options)


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def rows_of(answer: Any) -> np.ndarray:
    return np.array([one.embedding for one in answer.data], np.float32)


def post(http: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = http.post("/v1/embeddings", json=body)
    answer.raise_for_status()
    told: dict[str, Any] = answer.json()
    return told


def rows(told: dict[str, Any]) -> np.ndarray:
    return np.array([one["embedding"] for one in told["data"]], np.float32)


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_the_client_of_openai_gets_the_vectors_of_a_search(client: openai.OpenAI, form: Any) -> None:
    answer = client.embeddings.create(model="tiny-clip", input=["a red dog", "blue"], **form)

    if form.get("encoding_format") == "base64":
        raw = [base64.b64decode(str(one.embedding)) for one in answer.data]
        vectors = np.array([np.frombuffer(one, "<f4") for one in raw])
    else:
        vectors = rows_of(answer)
    np.testing.assert_allclose(vectors, text_rows("a red dog", "blue"), atol=1e-6)
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.model == "tiny-clip"
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (4, 4)


def test_one_text_and_the_number_of_dimensions_that_there_are(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="clip-qdrant", input="green", dimensions=16)

    np.testing.assert_allclose(rows_of(answer), text_rows("green"), atol=1e-6)


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny-clip", "clip-qdrant"]


def test_a_data_url_is_an_image_among_texts(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="clip-qdrant", input=[data_url("red"), "red"])

    np.testing.assert_allclose(rows_of(answer), [image_rows("red")[0], text_rows("red")[0]], atol=1e-6)
    assert answer.usage.prompt_tokens == 1


def test_infinity_sends_images_as_such(http: httpx.Client) -> None:
    bare = base64.b64encode(png("blue")).decode()
    told = post(http, model="clip-qdrant", input=[data_url("red"), bare], modality="image")

    np.testing.assert_allclose(rows(told), image_rows("red", "blue"), atol=1e-6)
    assert http.post("/embeddings", json={"input": "red"}).status_code == 200


def test_vllm_sends_messages_whose_parts_add_up(http: httpx.Client) -> None:
    image = {"type": "image_url", "image_url": {"url": data_url("red")}}
    alone = post(http, messages=[{"role": "user", "content": [image]}], model="clip-qdrant")
    both = post(http, messages=[{"role": "user", "content": [image, {"type": "text", "text": "a dog"}]}])
    text = post(http, messages=[{"role": "user", "content": "a dog"}])

    np.testing.assert_allclose(rows(alone), image_rows("red"), atol=1e-6)
    np.testing.assert_allclose(rows(text), text_rows("a dog"), atol=1e-6)
    total = image_rows("red")[0] + text_rows("a dog")[0]
    np.testing.assert_allclose(rows(both)[0], total / np.linalg.norm(total), atol=1e-6)


def test_jina_sends_objects(http: httpx.Client) -> None:
    bare = base64.b64encode(png("blue")).decode()
    inputs = [{"text": "a dog"}, {"image": bare}, "red"]
    told = post(http, model="tiny-clip", input=inputs, normalized=True, embedding_type="float", task="retrieval.query")
    bits = post(http, input=inputs, embedding_type="ubinary")

    expected = np.concatenate([text_rows("a dog"), image_rows("blue"), text_rows("red")])
    np.testing.assert_allclose(rows(told), expected, atol=1e-6)
    assert told["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    np.testing.assert_array_equal([one["embedding"] for one in bits["data"]], np.packbits(expected > 0, axis=1))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "the model 'gpt-4' is not served here"),
        ({"dimensions": 8}, openai.BadRequestError, "dimensions is 8: the vectors of this model have 16"),
        ({"input": [[1, 2]]}, openai.BadRequestError, "input has token ids"),
        ({"input": [1, 2]}, openai.BadRequestError, "input has token ids"),
        ({"input": ["red", " "]}, openai.BadRequestError, "input 1: the query text ' ' is empty"),
        ({"input": []}, openai.BadRequestError, "input is empty"),
        ({"input": ["x"] * 21}, openai.APIStatusError, "the request has 21 texts and images; 20 are possible at once"),
        ({"input": "x" * 40_000}, openai.APIStatusError, "input 0 has 40000 characters; 32768 are possible"),
        ({"encoding_format": "int8"}, openai.BadRequestError, "encoding_format: Input should be 'float' or 'base64'"),
        ({"input": ["data:image/png;base64,AAAA"]}, openai.UnprocessableEntityError, "input 0: the image "),
        ({"extra_body": {"late_chunking": True}}, openai.BadRequestError, "late_chunking is not possible here"),
        ({"extra_body": {"messages": [{"content": "x"}]}}, openai.BadRequestError, "one of both"),
        ({"extra_body": {"modality": "audio"}}, openai.BadRequestError, "modality: Input should be 'text' or 'image'"),
    ],
)
def test_the_client_of_openai_is_told_what_is_wrong(
    client: openai.OpenAI, arguments: Any, kind: type[openai.APIStatusError], message: str
) -> None:
    with pytest.raises(kind) as told:
        client.embeddings.create(**{"model": "clip-qdrant", "input": "red", **arguments})

    assert isinstance(told.value.body, dict)
    assert message in told.value.body["message"]
    assert told.value.body["type"] in ("invalid_request_error", "not_found_error")
