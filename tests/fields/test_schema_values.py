"""Metadata becomes JSON types, unchanged in meaning, or is refused by a message that names uri, field and value."""

from __future__ import annotations

import enum
import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_qdrant.errors import MetadataError
from clip_qdrant.fields.dates import parse_datetime, parse_period
from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.types import FieldType, Location


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("field_type", "value", "stored"),
    [
        ("keyword", "3", "3"),
        ("keyword", Colour.RED, "red"),
        ("keyword", np.str_("x"), "x"),
        ("keyword", "2024-05-01", "2024-05-01"),
        ("keyword", ("b", None, "a"), ["b", "a"]),
        ("keyword", {"b", "a"}, ["a", "b"]),
        ("keyword", [], []),
        ("integer", np.int64(3), 3),
        ("integer", np.array([1, 2]), [1, 2]),
        ("float", 3, 3.0),
        ("float", np.float32(0.5), 0.5),
        ("bool", np.bool_(True), True),
        ("datetime", date(2024, 5, 1), "2024-05-01"),
        ("datetime", "2024-05-01", "2024-05-01"),
        ("datetime", datetime(2024, 5, 1), "2024-05-01T00:00:00"),
        ("datetime", datetime(2024, 5, 1, 10, 0, 0, 5), "2024-05-01T10:00:00.000005"),
        ("datetime", datetime(2024, 5, 1, tzinfo=timezone(timedelta(hours=-2))), "2024-05-01T00:00:00-02:00"),
        ("datetime", datetime(1890, 1, 1, tzinfo=timezone(timedelta(seconds=3208))), "1889-12-31T23:06:32+00:00"),
        ("datetime", "2024-05-01 10:00", "2024-05-01T10:00:00"),
        ("datetime", "2024-05-01T10:00:00.123456789Z", "2024-05-01T10:00:00.123456+00:00"),
        ("datetime", np.datetime64("2024-05-01T10:00:00", "ns"), "2024-05-01T10:00:00"),
        ("geo", Location(1.5, 2.0), {"lat": 1.5, "lon": 2.0}),
        ("geo", [{"lat": 1, "lon": np.int8(2)}], [{"lat": 1.0, "lon": 2.0}]),
        ("text", "long prose", "long prose"),
    ],
)
def test_a_value_that_fits_is_stored(field_type: FieldType, value: Any, stored: Any) -> None:
    schema = Schema({"f": field_type})
    result = schema.normalise({"f": value})
    assert result == {"f": stored}
    assert json.dumps(result) == json.dumps({"f": stored})
    assert schema.normalise(dict(result)) == result


@pytest.mark.parametrize(
    ("field_type", "value", "says"),
    [
        ("integer", "3", "give an int, or declare the field as keyword"),
        ("integer", 3.0, "declare the field as float"),
        ("integer", True, "declare the field as bool"),
        ("integer", 2**63, "beyond 64 bits"),
        pytest.param("integer", 10**5000, "beyond 64 bits", id="thousands of digits"),
        ("integer", [1, "2"], "'2' (str) does not fit its type integer"),
        ("float", float("nan"), "not a number that JSON has"),
        ("float", float("inf"), "not a number that JSON has"),
        ("float", 2**53 + 1, "not exact as a float"),
        ("bool", 1, "give a bool"),
        ("keyword", 3, "give a str, or declare the field as integer"),
        ("keyword", "\udc80", "surrogate"),
        ("keyword", {"a": 1}, "is a dict where the field has the type keyword"),
        ("keyword", b"x", "of no type that can be stored"),
        ("keyword", [["a"]], "is a list in a list"),
        ("datetime", "yesterday", "ISO 8601"),
        ("datetime", "2024-05", "ISO 8601"),
        ("datetime", time(10), "of no type that can be stored"),
        ("datetime", np.datetime64("NaT"), "no moment"),
        ("geo", {"lat": 91, "lon": 0}, "lat must be a number of degrees from -90 to 90"),
        ("geo", {"lat": 0, "lon": float("nan")}, "lon must be a number"),
        ("geo", {"lat": 0}, 'give {"lat": …, "lon": …}'),
        ("geo", "52,13", 'give {"lat": …, "lon": …}'),
    ],
)
def test_a_value_that_does_not_fit_is_refused(field_type: FieldType, value: Any, says: str) -> None:
    with pytest.raises(MetadataError) as raised:
        Schema({"f": field_type}).normalise({"f": value}, uri="file:///a.jpg")
    assert str(raised.value).startswith("file:///a.jpg: metadata field 'f': ")
    assert says in str(raised.value)


def test_nested_keys_keep_their_nesting_and_none_is_left_out() -> None:
    schema = Schema({"exif.camera": "keyword"})
    assert schema.normalise({"exif": {"camera": "X100", "iso": None}, "year": None}) == {"exif": {"camera": "X100"}}
    with pytest.raises(MetadataError, match=r"'exif\.camera': 3 \(int\)"):
        schema.normalise({"exif": {"camera": 3}})
    with pytest.raises(MetadataError, match=r"'exif': 3 \(int\) is a group of nested fields \(exif\.camera\)"):
        schema.normalise({"exif": 3})


def test_a_field_without_a_type_is_brought_into_json_types_only() -> None:
    metadata = {"when": "2024-05-01", "n": np.int64(1), "place": Location(1.0, 2.0), "made": date(2024, 1, 1)}
    stored = {"when": "2024-05-01", "n": 1, "place": {"lat": 1.0, "lon": 2.0}, "made": "2024-01-01"}
    assert Schema().normalise(metadata) == stored
    for value in (Decimal(1), object(), [1, "a"], [{"a": 1}]):
        with pytest.raises(MetadataError, match="metadata field 'f'"):
            Schema().normalise({"f": value})


@pytest.mark.parametrize("metadata", [{"": 1}, {'a"b': 1}, {"a\\b": 1}, {"a": {"\\": 1}}, {3: 1}, {"\udc80": 1}, ["a"]])
def test_metadata_needs_usable_names(metadata: Any) -> None:
    with pytest.raises(MetadataError, match="u: metadata"):
        Schema().normalise(metadata, uri="u")


def test_metadata_that_contains_itself_is_refused() -> None:
    metadata: dict[str, Any] = {}
    metadata["again"] = metadata
    with pytest.raises(MetadataError, match="nested deeper than 16 levels"):
        Schema().normalise(metadata)
    with pytest.raises(MetadataError, match="nested deeper than 16 levels"):
        Schema().extend([metadata])


@given(st.datetimes(timezones=st.timezones()))
def test_a_datetime_keeps_its_moment(moment: datetime) -> None:
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        return
    stored = Schema({"f": "datetime"}).normalise({"f": moment})["f"]
    assert datetime.fromisoformat(stored) == utc


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.dates(),
    st.datetimes(),
    st.binary(max_size=2),
)
METADATA = st.dictionaries(
    st.text(max_size=3),
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_size=4,
)


@given(st.lists(METADATA, max_size=4))
def test_any_metadata_is_stored_whole_or_refused(metadatas: list[dict[str, Any]]) -> None:
    try:
        schema = Schema().extend(metadatas)
        stored = [schema.normalise(metadata) for metadata in metadatas]
    except MetadataError:
        return
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert [schema.normalise(dict(metadata)) for metadata in stored] == stored
    for before, after in zip(metadatas, stored, strict=True):
        assert after.keys() == {key for key, value in before.items() if value is not None}


@pytest.mark.parametrize(
    "text", ["20240501", "2024-5-1", "2024-05-01T25:00", "2024-05-01T10", "٢٠٢٤-٠٥-٠١", "2024-05-01\n"]
)
def test_other_spellings_are_no_datetime(text: str) -> None:
    assert parse_datetime(text) is None
    assert parse_period(text) is None


def test_a_period_ends_where_the_next_begins() -> None:
    for text, following in [
        ("2023", "2024"),
        ("2023-12", "2024-01"),
        ("2024-02-29", "2024-03-01"),
        ("2024-12-31", "2025"),
    ]:
        period, after = parse_period(text), parse_period(following)
        assert period is not None
        assert after is not None
        assert period[1] == after[0]
    for text in ("9999", "9999-12", "9999-12-31", "9999-12-31T23:59"):
        period = parse_period(text)
        assert period is not None
        assert period[1] is None


def test_what_does_not_fit_is_left_out_and_told_of_a_hundred_times_at_most() -> None:
    schema = Schema({"year": "integer", "exif.stars": "float"})
    metadata = {"year": "late", "exif": {"stars": "many", "lens": "x"}, "ok": 1, 'a"': 2, "nested": [[1]]}
    left_out: list[MetadataError] = []
    assert schema.normalise(metadata, left_out=left_out) == {"exif": {"lens": "x"}, "ok": 1}
    assert [error.field for error in left_out] == ["year", "exif.stars", "'a\"'", "nested"]
    many: list[MetadataError] = []
    bad: dict[str, Any] = {f"f{number}": [[1]] for number in range(1000)}
    assert schema.normalise({**bad, "ok": 1}, left_out=many) == {"ok": 1}
    assert len(many) == 100


def test_of_values_that_disagree_the_most_frequent_decide_if_asked() -> None:
    values = [{"n": "late"}, {"n": 1}, {"n": 2.5}, {"n": [3, True]}, {"n": {"a": 1}, "m": []}]
    with pytest.raises(MetadataError, match="'n'"):
        Schema().extend(values)
    assert Schema().extend(values[:-1], lenient=True).fields == {"n": "float"}
    assert Schema().extend(values, lenient=True).fields == {"n": "float"}
    assert Schema().extend([{"n": {"a": 1}}, {"n": {"a": 2}}, {"n": 3}], lenient=True).fields == {"n.a": "integer"}
    assert Schema({"n.a": "integer"}).extend([{"n": 1}], lenient=True).fields == {"n.a": "integer"}
