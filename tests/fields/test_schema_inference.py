"""The types of metadata fields are inferred from their first values, or declared."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from clip_qdrant.errors import ConfigError, MetadataError
from clip_qdrant.fields.schema import Schema, index_params
from clip_qdrant.fields.types import RESERVED_FIELDS, Location


@pytest.mark.parametrize(
    ("values", "field_type"),
    [
        (["pets", "sea"], "keyword"),
        (["pets", None, "2024-05-01"], "keyword"),
        (["2024-05-01", "2024-05-01T10:00:00Z"], "datetime"),
        (["2024-05-01", date(2024, 5, 1)], "datetime"),
        ([datetime(2024, 5, 1, tzinfo=UTC), np.datetime64("2024-05-01", "ns")], "datetime"),
        (["2024-02-31"], "keyword"),
        (["2024", "2024-05"], "keyword"),
        (["x" * 256], "keyword"),
        (["short", "x" * 257], "text"),
        ([1, 2], "integer"),
        ([1, 2.5], "float"),
        ([np.int32(1), np.float32(0.5)], "float"),
        ([True, np.bool_(False)], "bool"),
        ([{"lat": 1, "lon": 2}, Location(1.0, 2.0)], "geo"),
        ([["a", "b"], "c", (), {"d"}], "keyword"),
        ([np.array([1.5, 2])], "float"),
        ([None, [], [None]], None),
    ],
)
def test_values_tell_the_type(values: list[Any], field_type: str | None) -> None:
    assert Schema().new_fields({"field": value} for value in values).get("field") == field_type


@pytest.mark.parametrize(
    "values", [["a", 1], [True, 1], [date(2024, 1, 1), "a"], [{"lat": 1, "lon": 2}, "x"], [[1, "a"]]]
)
def test_values_of_no_common_type_are_refused(values: list[Any]) -> None:
    with pytest.raises(MetadataError, match="give all values of a field one type"):
        Schema().new_fields({"field": value} for value in values)


def test_a_conflict_names_both_images() -> None:
    metadatas = [{"year": 2022}, {"year": "unknown"}]
    with pytest.raises(MetadataError, match=r"^u1: metadata field 'year': 2022 \(int\) .*'unknown' \(str\) \(at u2\)"):
        Schema().extend(metadatas, uris=["u1", "u2"])


def test_a_schema_grows_by_the_new_fields_only() -> None:
    schema = Schema({"year": "integer"})
    metadatas = [{"year": 2022, "exif": {"iso": 100}}, {"exif": {"iso": 0.5}, "odd name": "x", "empty": None}]
    assert schema.new_fields(metadatas) == {"exif.iso": "float", '"odd name"': "keyword"}
    assert schema.extend(metadatas) == Schema({"year": "integer", "exif.iso": "float", "odd name": "keyword"})
    assert schema == Schema({"year": "integer"})


def test_a_name_is_a_value_or_a_group_not_both() -> None:
    with pytest.raises(MetadataError, match="is a group of nested fields elsewhere"):
        Schema().extend([{"exif": "x"}, {"exif": {"iso": 1}}])
    with pytest.raises(MetadataError, match="is a group of nested fields elsewhere"):
        Schema({"exif.iso": "integer"}).extend([{"exif": 3}])
    with pytest.raises(ConfigError, match=r"'exif' cannot be a value and have the field 'exif\.iso' inside it"):
        Schema({"exif": "keyword", "exif.iso": "integer"})


@pytest.mark.parametrize("name", ["", "a..b", ".a", "a.", 'a"b', "a\\b", '"a\\b"', "a.\\"])
def test_a_name_that_is_no_path_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a field name"):
        Schema({name: "keyword"})


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown type 'string'; use one of keyword, integer"):
        Schema({"year": "string"})  # type: ignore[dict-item]  # the error at hand


def test_payload_fields_are_the_reserved_and_the_metadata_fields() -> None:
    fields = Schema({"caption": "keyword", "odd name": "text"}).payload_fields()
    assert fields == {**RESERVED_FIELDS, "metadata.caption": "keyword", 'metadata."odd name"': "text"}


def test_every_type_of_index_has_its_parameters() -> None:
    for field_type in set(Schema({"a": "text", "b": "float", "c": "bool"}).indexes().values()):
        if field_type == "keyword":
            assert index_params(field_type) == models.KeywordIndexParams(type="keyword", prefix=True)
        else:
            assert index_params(field_type) == models.PayloadSchemaType(field_type)


def test_a_text_is_indexed_by_its_words_and_a_date_by_what_the_clock_showed() -> None:
    assert Schema({"notes": "text", "sent": "datetime"}).indexes() == {
        **{key: kind for key, kind in RESERVED_FIELDS.items() if key != "caption"},
        "words.caption": "keyword",
        "local_time.taken_at": "datetime",
        "calendar.taken_at": "integer",
        "words.metadata.notes[].w": "keyword",
        "metadata.sent": "datetime",
        "local_time.metadata.sent": "datetime",
    }
