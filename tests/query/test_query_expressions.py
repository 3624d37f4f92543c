"""Queries as values: how they combine, compare and print."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import solid_image

from clip_qdrant.collection.query import Query
from clip_qdrant.errors import QueryError


def weights(query: Query) -> list[float]:
    return [term.weight for term in query.terms]


def test_terms_add_up_with_their_weights() -> None:
    query = Query.text("beach") + 0.5 * Query.image("sunset.jpg") - Query.text("people") / 4
    assert weights(query) == [1, 0.5, -0.25]


def test_a_factor_applies_to_every_term_of_a_sum() -> None:
    assert weights(-2 * (Query.text("a") - Query.text("b"))) == [-2, 2]


def test_sum_works_on_an_iterable_of_queries() -> None:
    assert sum(Query.text(word) for word in ("a", "b")) == Query.text("a") + Query.text("b")


def test_numpy_scalars_are_numbers_on_either_side() -> None:
    assert np.float32(0.5) * Query.text("a") == Query.text("a") * np.float32(0.5) == Query.text("a") / 2
    assert weights(np.float64(0.25) * Query.text("a")) == [0.25]


def test_combining_makes_new_queries_and_changes_none() -> None:
    beach = Query.text("beach")
    assert (beach + Query.text("sea")) * 3 != beach
    assert weights(beach) == [1]
    with pytest.raises(AttributeError):
        beach.terms = ()  # type: ignore[misc]  # frozen


def test_equal_queries_have_equal_hashes() -> None:
    def made() -> list[Query]:
        return [
            Query.text("a"),
            Query.id("urn:x"),
            Query.image("a.jpg"),
            Query.image(b"bytes"),
            Query.vector([1, 0]),
            Query.text("a") - 2 * Query.vector(np.array([0.0, 1.0])),
        ]

    assert made() == made()
    assert len({*made(), *made()}) == len(made())


def test_a_query_of_a_pil_image_or_an_array_can_be_hashed() -> None:
    image = solid_image("red")
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert Query.image(image) == Query.image(image)
    assert len({Query.image(image), Query.image(pixels), Query.image(pixels)}) == 2


def test_the_repr_reads_like_the_expression() -> None:
    query = Query.text("beach") + 0.5 * Query.image("sunset.jpg") - Query.id("urn:x") + 2 * Query.vector([1.0, 0.0])
    assert repr(query) == (
        "Query.text('beach') + 0.5 * Query.image('sunset.jpg') - Query.id('urn:x') + 2 * Query.vector(<2 numbers>)"
    )
    assert repr(-Query.text("a")) == "-Query.text('a')"
    assert repr(Query.image(b"\xff\xd8")) == "Query.image(<bytes>)"


def test_the_repr_of_a_very_long_text_is_short() -> None:
    assert len(repr(Query.text("dog " * 250_000))) < 300


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_an_empty_text_is_refused_at_once(text: str) -> None:
    with pytest.raises(QueryError, match="is empty"):
        Query.text(text)


def test_a_text_that_is_no_string_is_refused_with_its_type() -> None:
    with pytest.raises(QueryError, match="not int"):
        Query.text(3)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ([0.0, 0.0], "is zero"),
        ([1.0, float("nan")], "not finite"),
        ([1.0, float("inf")], "not finite"),
        ([[1.0, 0.0]], r"shape \(1, 2\)"),
        ([], r"shape \(0,\)"),
        (["red"], "row of numbers"),
    ],
)
def test_a_vector_without_a_direction_is_refused(vector: list[float], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        Query.vector(vector)


def test_a_vector_query_does_not_follow_later_changes_of_its_array() -> None:
    array = np.array([1.0, 0.0])
    query = Query.vector(array)
    array[:] = 0
    assert query == Query.vector([1.0, 0.0])


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(weight: float) -> None:
    with pytest.raises(QueryError, match="finite"):
        weight * Query.text("a")


def test_division_by_zero_is_refused() -> None:
    with pytest.raises(QueryError, match="zero"):
        Query.text("a") / 0


def test_adding_something_else_is_a_type_error() -> None:
    for wrong in ("b", 1, None):
        with pytest.raises(TypeError):
            Query.text("a") + wrong
        with pytest.raises(TypeError):
            Query.text("a") - wrong
    with pytest.raises(TypeError):
        Query.text("a") * "b"
