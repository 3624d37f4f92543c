"""Texts become values of the type of their field."""

from __future__ import annotations

from typing import Any

import pytest

from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.types import FieldType
from clip_qdrant_ingestion.sources.protocol import Description
from clip_qdrant_ingestion.sources.text_values import type_texts


def said(**texts: str) -> Description:
    return Description(texts=texts)


@pytest.mark.parametrize(
    ("field_type", "text", "value"),
    [
        ("integer", "42", 42),
        ("integer", "-7", -7),
        ("float", "19.90", 19.9),
        ("float", "5", 5.0),
        ("float", "1e3", 1000.0),
        ("bool", "TRUE", True),
        ("bool", "false", False),
        ("datetime", "2024-05-01", "2024-05-01"),
        ("datetime", "2024-05-01T10:00:00+02:00", "2024-05-01T10:00:00+02:00"),
        ("geo", "48.1, 11.5", {"lat": 48.1, "lon": 11.5}),
        ("geo", "-33,151", {"lat": -33.0, "lon": 151.0}),
        ("keyword", "007", "007"),
        ("text", "true", "true"),
    ],
)
def test_a_text_becomes_a_value_of_its_fields_type(field_type: FieldType, text: str, value: Any) -> None:
    (result,) = type_texts([said(field=text)], {"field": field_type})
    assert isinstance(result, Description)
    assert result.metadata == {"field": value}
    assert type(result.metadata["field"]) is type(value)
    assert not result.texts
    Schema({"field": field_type}).normalise(result.metadata)


@pytest.mark.parametrize(
    ("field_type", "text"),
    [
        ("integer", "007"),
        ("integer", "1.0"),
        ("integer", "1_000"),
        ("integer", "many"),
        ("float", "1,5"),
        ("float", "nan"),
        ("float", "1e999"),
        ("bool", "yes"),
        ("bool", "1"),
        ("datetime", "01.05.2024"),
        ("geo", "48.1"),
        ("geo", "north,south"),
    ],
)
def test_a_text_that_does_not_fit_names_field_value_and_type(field_type: FieldType, text: str) -> None:
    (result,) = type_texts([said(price=text)], {"price": field_type})
    (error,) = result.left_out
    assert (result.metadata, error.field) == ({}, "price")
    assert f"metadata field 'price': {text!r} (str) does not fit its type {field_type}" in str(error)


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "2"], [1, 2]),
        (["1", "2.5"], [1.0, 2.5]),
        (["1", "007"], ["1", "007"]),
        (["true", "False"], [True, False]),
        (["true", "1"], ["true", "1"]),
        (["2024-05-01", "2024-05-02"], ["2024-05-01", "2024-05-02"]),
        (["9" * 30], ["9" * 30]),
    ],
)
def test_the_texts_of_a_new_field_decide_together(texts: list[str], values: list[Any]) -> None:
    results = type_texts([said(field=text) for text in texts], {})
    assert [result.metadata["field"] for result in results if isinstance(result, Description)] == values


def test_one_text_that_does_not_fit_costs_its_own_field() -> None:
    good, bad, none = type_texts([said(n="1", m="2"), said(n="x", m="3"), Description("caption")], {"n": "integer"})
    assert (good.metadata, good.left_out) == ({"n": 1, "m": 2}, ())
    assert (bad.metadata, [error.field for error in bad.left_out]) == ({"m": 3}, ["n"])
    assert none == Description("caption")


def test_date_and_place_stay_texts() -> None:
    texts = {"taken_at": "20240501", "location": "48.1,11.5"}
    assert [one.metadata for one in type_texts([said(**texts)], {})] == [texts]


def test_values_that_are_known_stay_and_empty_texts_are_absent() -> None:
    (result,) = type_texts([Description("c", {"a": 1}, {"b": "", "c": "2"}, partial=True)], {"b": "integer"})
    assert result == Description("c", {"a": 1, "c": 2}, {}, partial=True)


def test_a_name_with_a_space_is_the_quoted_field_of_the_collection() -> None:
    (result,) = type_texts([Description(texts={"shelf life": "007"})], {'"shelf life"': "keyword"})
    assert isinstance(result, Description)
    assert result.metadata == {"shelf life": "007"}


def test_a_value_of_a_table_takes_the_type_of_its_field_where_its_text_allows_it() -> None:
    said = Description(metadata={"sku": 42, "year": 2024}, written={"sku": "0042", "year": "2024"})
    assert type_texts([said], {}) == [Description(metadata={"sku": 42, "year": 2024})]
    assert type_texts([said], {"sku": "keyword", "year": "float"}) == [
        Description(metadata={"sku": "0042", "year": 2024.0})
    ]
    assert type_texts([said], {"sku": "geo"}) == [
        Description(metadata={"sku": 42, "year": 2024})
    ]  # which the check refuses
