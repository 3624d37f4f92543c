"""From a query to one unit vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image, write_image
from hypothesis import given
from hypothesis import strategies as st

from clip_qdrant.collection.query import Query
from clip_qdrant.errors import ImageError, QueryError
from clip_qdrant.uris import to_uri


def nothing_stored(names: Sequence[str]) -> Mapping[str, np.ndarray]:
    return {}


def axis(number: int, dim: int = 16) -> np.ndarray:
    return np.eye(dim, dtype=np.float32)[number]


def test_the_sum_of_unit_vectors_is_weighted_and_normalised() -> None:
    query = 3 * Query.vector(10 * axis(0)) - 4 * Query.vector(0.1 * axis(1))
    vector = query.evaluate(FakeEmbedder(), nothing_stored)
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, 0.6 * axis(0) - 0.8 * axis(1), atol=1e-6)


def test_scaling_a_whole_query_does_not_change_its_vector() -> None:
    query = Query.text("red") + 0.3 * Query.text("blue")
    embedder = FakeEmbedder()
    expected = query.evaluate(embedder, nothing_stored)
    np.testing.assert_allclose((7 * query).evaluate(embedder, nothing_stored), expected, atol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 15), st.floats(0.01, 100)), min_size=1, max_size=6))
def test_the_result_has_length_one_for_any_positive_weights(parts: list[tuple[int, float]]) -> None:
    query = sum(weight * Query.vector(axis(number)) for number, weight in parts)
    assert isinstance(query, Query)
    assert np.linalg.norm(query.evaluate(FakeEmbedder(), nothing_stored)) == pytest.approx(1, abs=1e-5)


def test_all_texts_are_one_batch_and_all_images_another(tmp_path: Path) -> None:
    embedder = FakeEmbedder()
    path = write_image(tmp_path / "red.png", "red")
    query = Query.text("red") + Query.text("blue") - Query.text("green") + Query.image(path)
    (query + Query.image(solid_image("blue"))).evaluate(embedder, nothing_stored)
    assert embedder.text_calls == [3]
    assert embedder.image_calls == [2]


def test_a_term_that_comes_twice_is_embedded_once() -> None:
    embedder = FakeEmbedder()
    (Query.text("red") + 0.5 * Query.text("red") + Query.text("blue")).evaluate(embedder, nothing_stored)
    assert embedder.text_calls == [2]


def test_stored_images_are_fetched_in_one_call() -> None:
    asked: list[list[str]] = []

    def fetch(names: Sequence[str]) -> Mapping[str, np.ndarray]:
        asked.append(list(names))
        return {"urn:a": axis(0), "urn:b": axis(1)}

    query = Query.id("urn:a") - Query.id("urn:b") + Query.id("urn:a")
    vector = query.evaluate(FakeEmbedder(), fetch)
    assert asked == [["urn:a", "urn:b"]]
    np.testing.assert_allclose(vector, (2 * axis(0) - axis(1)) / np.sqrt(5), atol=1e-6)


def test_a_stored_image_that_is_missing_is_named() -> None:
    with pytest.raises(QueryError, match="urn:nowhere"):
        Query.id("urn:nowhere").evaluate(FakeEmbedder(), nothing_stored)


@pytest.mark.parametrize("query", [Query.text("red") - Query.text("red"), 0 * Query.text("red")])
def test_terms_that_cancel_are_refused(query: Query) -> None:
    with pytest.raises(QueryError, match="cancel"):
        query.evaluate(FakeEmbedder(), nothing_stored)


def test_weights_beyond_floating_point_are_refused() -> None:
    query = 1e200 * (1e200 * Query.text("red"))
    with pytest.raises(QueryError, match="finite"):
        query.evaluate(FakeEmbedder(), nothing_stored)


def test_a_vector_of_another_length_is_refused_with_both_lengths() -> None:
    with pytest.raises(QueryError, match=r"\(3,\).*\(16,\)"):
        Query.vector([1.0, 0.0, 0.0]).evaluate(FakeEmbedder(dim=16), nothing_stored)


def test_a_query_without_terms_is_refused() -> None:
    with pytest.raises(QueryError, match="no terms"):
        Query(()).evaluate(FakeEmbedder(), nothing_stored)


def test_an_image_that_cannot_be_read_is_an_image_error() -> None:
    with pytest.raises(ImageError):
        Query.image(b"no image").evaluate(FakeEmbedder(), nothing_stored)


def test_the_uri_of_a_hit_is_an_image_too(tmp_path: Path) -> None:
    path = write_image(tmp_path / "blue one.png", "blue")
    by_uri, by_path = (Query.image(name).evaluate(FakeEmbedder(), nothing_stored) for name in (to_uri(path), path))
    np.testing.assert_array_equal(by_uri, by_path)
