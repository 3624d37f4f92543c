"""The prompts of a model: sentences around the texts that people search with, and around nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image

from clip_qdrant.collection.query import Query
from clip_qdrant.errors import ConfigError
from clip_qdrant.model_inputs.prompts import Prompts


class PromptedEmbedder(FakeEmbedder):
    prompts = Prompts(("a photo of {}", "{} outdoors"), longest=2)


def vector(query: Query, embedder: FakeEmbedder) -> np.ndarray:
    return query.evaluate(embedder, lambda names: {"urn:a": np.eye(16, dtype=np.float32)[0]})


def test_a_text_is_the_mean_of_its_prompts() -> None:
    embedder = PromptedEmbedder()
    wrapped = FakeEmbedder().embed_texts(["a photo of zebra", "zebra outdoors"]).sum(axis=0)

    found = vector(Query.text("zebra"), embedder)

    np.testing.assert_allclose(found, wrapped / np.linalg.norm(wrapped), atol=1e-6)
    assert embedder.text_calls == [2]


@pytest.mark.parametrize("query", [Query.text("zebra", raw=True), Query.text("a zebra runs")])
def test_a_raw_text_and_a_long_one_are_taken_as_they_are(query: Query) -> None:
    np.testing.assert_allclose(vector(query, PromptedEmbedder()), vector(query, FakeEmbedder()), atol=1e-6)


def test_images_stored_images_and_vectors_have_no_prompts() -> None:
    query = Query.image(solid_image("red")) + Query.id("urn:a") + Query.vector(np.ones(16))

    embedder = PromptedEmbedder()
    np.testing.assert_allclose(vector(query, embedder), vector(query, FakeEmbedder()), atol=1e-6)
    assert embedder.text_calls == []


def test_braces_in_a_text_are_text() -> None:
    assert Prompts(("a {} here",)).wrap("{0} {x}") == ["a {0} {x} here"]


@pytest.mark.parametrize("templates", [(), ("a photo",), ("{} and {}",), (3,)])
def test_what_is_no_prompt_is_refused(templates: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="prompt"):
        Prompts(templates)


def test_prompts_are_kept_as_plain_data() -> None:
    prompts = Prompts(("a photo of {}",), longest=3)

    assert Prompts.from_dict(prompts.to_dict()) == prompts
    assert Prompts.from_dict(None) is None
