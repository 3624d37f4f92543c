"""The prompts of a model: sentences around the texts that people search with, a bias taken from them, and neither for
anything else."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image

from clip_qdrant.collection.query import Query, embed_query_texts, evaluate_queries
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


class BiasedEmbedder(FakeEmbedder):
    prompts = Prompts(("a photo of {}", "{} outdoors"), longest=2, bias=(0.3, *[0.0] * 15))


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("text", ["red zebra", "a red zebra that runs"])
def test_the_bias_is_taken_from_every_text_whatever_its_length(text: str) -> None:
    [made] = evaluate_queries([Query.text(text)], BiasedEmbedder(), lambda _: {})

    left = vector(Query.text(text), PromptedEmbedder()) - np.array(BiasedEmbedder.prompts.bias)
    np.testing.assert_allclose(made.vector, unit(left), atol=1e-6)
    assert made.strength == pytest.approx(np.linalg.norm(left))
    assert 0 < made.strength < 1
    np.testing.assert_allclose(embed_query_texts([text], BiasedEmbedder())[0], made.vector, atol=1e-6)
    np.testing.assert_allclose(embed_query_texts([text], BiasedEmbedder(), unit=False)[0], left, atol=1e-6)


def test_what_is_no_text_or_a_raw_one_keeps_all_of_its_vector() -> None:
    query = Query.image(solid_image("red")) + Query.id("urn:a") + Query.text("zebra", raw=True) * 2

    [made] = evaluate_queries([query], BiasedEmbedder(), lambda _: {"urn:a": np.eye(16, dtype=np.float32)[0]})
    np.testing.assert_allclose(made.vector, vector(query, FakeEmbedder()), atol=1e-6)
    assert made.strength == pytest.approx(1)


def test_each_text_of_a_sum_counts_by_its_weight_and_not_by_its_strength() -> None:
    embedder = BiasedEmbedder()
    red, blue, image = Query.text("red"), Query.text("blue"), Query.image(solid_image("green"))

    [first, second, both] = evaluate_queries([red, blue, red - 2 * blue + image], embedder, lambda _: {})
    rows = first.vector - 2 * second.vector + embedder.embed_images([solid_image("green")])[0]
    np.testing.assert_allclose(both.vector, unit(rows), atol=1e-6)
    assert both.strength == pytest.approx((first.strength + 2 * second.strength + 1) / 4)


def test_braces_in_a_text_are_text() -> None:
    assert Prompts(("a {} here",)).wrap("{0} {x}") == ["a {0} {x} here"]


@pytest.mark.parametrize("templates", [(), ("a photo",), ("{} and {}",), (3,)])
def test_what_is_no_prompt_is_refused(templates: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="prompt"):
        Prompts(templates)


@pytest.mark.parametrize("bias", [(0.0, 0.0), (3.0, 4.0), (float("nan"), 0.1)])
def test_what_is_no_bias_is_refused(bias: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="bias"):
        Prompts(("{}",), bias=bias)


def test_prompts_are_kept_as_plain_data() -> None:
    for prompts in (Prompts(("a photo of {}",), longest=3), Prompts(("{}",), bias=(0.1, -0.2))):
        assert Prompts.from_dict(prompts.to_dict()) == prompts
    assert Prompts.from_dict({"templates": ["{}"], "longest": None}) == Prompts(("{}",))
    assert Prompts.from_dict(None) is None
