"""list_terms() and the sparse vectors of images and queries: what makes a text found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_qdrant.collection.text.terms import LONGEST_TEXT, list_query_terms, list_terms
from clip_qdrant.collection.text.vectors import make_document, make_query
from clip_qdrant.fields.types import FieldType

FIELDS: dict[str, FieldType] = {
    "caption": "text",
    "uri": "keyword",
    "metadata.tags": "keyword",
    "metadata.exif.camera": "keyword",
    "metadata.year": "integer",
    "metadata.shot": "datetime",
}


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Two DOGS at the Café!", ["two", "dog", "at", "the", "cafe"]),
        ("stories boxes glass bus shoes dresses", ["story", "box", "glass", "bus", "shoe", "dress"]),
        ("IMG_2041", ["img", "2041"]),
        ("DSC0042", ["dsc0042", "dsc", "0042"]),
        ("sunsetBeach", ["sunsetbeach", "sunset", "beach"]),
        ("黒い猫", ["黒", "黒い", "い", "い猫", "猫"]),
        ("猫cat", ["猫", "cat"]),
        ("ｶﾞﾗｽ", ["ガ", "ガラ", "ラ", "ラス", "ス"]),
        ("고양이", ["고", "고양", "양", "양이", "이"]),
        ("แมว", ["แ", "แม", "ม", "มว", "ว"]),
        ("Straße ﬁne ΓΆΤΑ Ёлка", ["strasse", "fine", "γατα", "елка"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("שָׁלוֹם", ["שלום"]),
        ("?! … --", []),
        ("a" * 41, []),
    ],
)
def test_texts_of_any_language_have_terms(text: str, terms: list[str]) -> None:
    assert list_terms(text) == terms


def test_a_query_leaves_out_words_that_say_nothing_unless_there_are_no_others() -> None:
    assert list_query_terms("a dog and the dog") == ["dog"]
    assert list_query_terms("the who") == ["the", "who"]


@given(st.text())
def test_no_text_fails_and_what_is_written_as_it_is_stored_is_found(text: str) -> None:
    document = make_document({"caption": text}, FIELDS)
    query = make_query(text, {"caption": 1.0})
    assert (document is None) == (query is None)
    if document is not None and query is not None:
        assert set(query.indices) <= set(document.indices)
        assert len(set(document.indices)) == len(document.indices)


def document(payload: dict[str, Any]) -> dict[int, float]:
    made = make_document(payload, FIELDS)
    return {} if made is None else dict(zip(made.indices, made.values, strict=True))


def dimensions(text: str, *fields: str) -> set[int]:
    made = make_query(text, dict.fromkeys(fields, 1.0))
    assert made is not None
    return set(made.indices)


def test_caption_name_folders_and_texts_of_the_metadata_have_words() -> None:
    words = document(
        {
            "uri": "s3://photos/2021/rome%20trip/IMG_7.jpg",
            "caption": "red boat",
            "metadata": {"tags": ["sea", "sun"], "exif": {"camera": "Canon"}, "year": 1999, "shot": "2020-01-01"},
            "image": {"format": "JPEG"},
        }
    ).keys()

    assert dimensions("red boat", "caption") <= words
    assert dimensions("photos 2021 rome trip img 7", "uri") <= words
    assert dimensions("sea sun", "metadata.tags", "metadata") <= words
    assert dimensions("canon", "metadata.exif.camera", "metadata") <= words
    assert not words & dimensions("boat", "uri", "metadata")
    assert not words & dimensions("jpg jpeg 1999 2020", "caption", "uri", "metadata", "metadata.year", "metadata.shot")
    assert not words & dimensions("sea", "metadata.exif.camera", "caption")


@pytest.mark.parametrize("payload", [{}, {"uri": "urn:sha256:abc"}, {"caption": "…"}, {"metadata": {"tags": [5, []]}}])
def test_an_image_without_words_has_no_vector_of_them(payload: dict[str, Any]) -> None:
    assert make_document(payload, FIELDS) is None


def test_a_term_counts_more_the_more_often_it_occurs_and_the_shorter_the_text_is() -> None:
    (boat,) = dimensions("boat", "caption")
    once = document({"caption": "a boat here"})[boat]
    assert once < document({"caption": "a boat boat"})[boat] < 2 * once
    assert once > document({"caption": "a boat here " + "and there " * 20})[boat]


def test_a_huge_text_costs_no_more_than_a_long_one() -> None:
    caption = " ".join(f"word{number}" for number in range(200_000))
    tags = [f"tag{number}" for number in range(200_000)]
    assert len(document({"caption": caption, "metadata": {"tags": tags}})) == 512
    assert len(document({"caption": caption})) == 256
    assert len(list_terms(caption)) <= LONGEST_TEXT
    assert make_query(caption, {"caption": 1.0}).indices.__len__() == 64  # type: ignore[union-attr]  # it has words


def test_the_dimension_of_a_term_never_changes() -> None:
    """Stored vectors hold it: where it changes, so must the format of collections."""
    assert dimensions("boat", "caption") == {1303302322}
