"""What is wrong with a where is said in the user's words, with a caret under the place."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.names import join_path
from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.types import RESERVED_FIELDS, Location
from clip_qdrant.filters.build import build_filter, resolve_field, show_field

FIELDS = Schema(
    {
        "album": "keyword",
        "odd name": "keyword",
        "a.b": "keyword",
        "year": "integer",
        "score": "float",
        "liked": "bool",
        "caption": "keyword",
        "and": "keyword",
    }
).payload_fields()


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("album", 6, "expected an operator (=, !="),
        ("album =", 8, "expected a value (text in quotes, a number, true or false), but the text ends here"),
        ("album = pets", 9, "text stands in quotes: 'pets'"),
        ("album == 'x'", 8, "one = compares"),
        ("album <> 'x'", 8, "not equal is written !="),
        ("album = null", 9, "is null"),
        ("album = 'pets", 9, "this quote is never closed"),
        ("album = 'a' year = 3", 13, "expected and, or or the end, found 'year'"),
        ("album = 'a' and", 16, "expected a field name"),
        ("album = 'a')", 12, "it closes no '('"),
        ("(album = 'a'", 13, "expected ')'"),
        ("year in ()", 10, "expected a value"),
        ("year in (1", 11, "expected ',' or ')'"),
        ("year is 3", 9, "expected null, not null"),
        ("odd-name = 'x'", 4, "backticks"),
        ("location within 5 miles of (1, 2)", 19, "expected a unit (km or m)"),
        ("caption ~ 3", 11, "expected text in quotes"),
        ("year = 1e999", 8, "too large"),
        ("year = " + "9" * 5000, 8, "too large"),
        ("album = 'a'\nand yaer = 3", 17, "did you mean year?"),
        ("Album = 'a'", 1, "did you mean album?"),
        ("nothing_like_it = 3", 1, "the fields are a.b, album"),
        ("album > 'a'", 7, "album is a keyword field and has no >; it has =, !=, in, not in, ^=, ~, is null"),
        ("year ~ 'x'", 6, "has no ~"),
        ("liked in (true)", 7, "bool field and has no in"),
        ("location = 'x'", 10, "it has within"),
        ("album = 3", 9, "compare it with text in quotes, not 3 (int)"),
        ("year = '2022'", 8, "compare it with a number, without quotes"),
        ("year in (1, 2.5)", 13, "never equals 2.5"),
        ("year = true", 8, "compare it with a number"),
        ("liked = 1", 9, "true or false"),
        ("year = 9223372036854775808", 8, "beyond the integers of 64 bits"),
        ("score < 9223372036854775808", 9, "beyond the integers of 64 bits"),
        ("year > 9007199254740993", 8, "exact only below 2^53"),
        ("year between 5 and 3", 14, "swap the two"),
        ("taken_at > 2020", 12, "put the date in quotes: '2020'"),
        ("taken_at = 'yesterday'", 12, "such as '2024', '2024-05'"),
        ("taken_at = '2024-13'", 12, "such as '2024', '2024-05'"),
        ("location within 0 m of (1, 2)", 17, "greater than 0"),
        ("location within 1 km of (91, 2)", 26, "latitude 91 is not from -90 to 90"),
        ("location within 1 km of (9, 182)", 29, "longitude 182"),
        ("album = '\ud800'", 9, "surrogate"),
        ("album ~ ''", 9, "a text that is not empty"),
        ("album ^= ''", 10, "for any album write: album exists"),
        ("caption ^= 'x'", 9, "has no ^="),
        ("taken_at ~ '2024'", 10, "taken_at = '2024-05'"),
        ("taken_at.month = 13", 18, "taken_at.month takes a number from 1 to 12 or text such as 'dec', not 13"),
        ("taken_at.month = 'foo'", 18, "from 1 to 12"),
        ("taken_at.weekday > 'sun'", 20, "taken_at.weekday is from 1 to 7; none is >"),
        ("taken_at.hour = 1.5", 17, "from 0 to 23"),
        ("taken_at.yearday = 12", 20, "a month and a day such as '12-24'"),
        ("taken_at.yearday = '02-30'", 20, "a month and a day"),
        ("taken_at.month ~ 'x'", 16, "taken_at.month has no ~; it has ="),
        ("taken_at.century = 20", 1, "there is no indexed field taken_at.century"),
        ("ingested_at.month = 1", 1, "there is no indexed field"),
        ("location within box (1, 2, 3)", 29, "expected ','"),
        ("location within box (3, 2, 1, 4)", 22, "the south 3 is not below the north 1"),
        ("location within box (1, 2, 3, 2)", 25, "no width"),
        ("location within box (1, 2, 300, 4)", 28, "latitude 300"),
        ("location within polygon ((1, 2), (3, 4))", 27, "at least 3 corners"),
        ("location within polygon ((80, 0), (80, 120), (80, -120))", 27, "goes round a pole"),
        ("location within circle", 17, "expected a number, box or polygon"),
        ("caption ~ '" + "a" * 70_000 + "'", 11, "no field holds more than"),
        ("caption ~ '" + " ".join(f"w{i}" for i in range(100)) + "'", 11, "~ takes 64 words, not 100"),
    ],
)
def test_a_wrong_text_is_refused_at_its_column(text: str, column: int, says: str) -> None:
    with pytest.raises(FilterError) as raised:
        build_filter(text, FIELDS)
    assert says in str(raised.value)
    assert raised.value.column == column
    shown, caret = str(raised.value).split("\n")[-2:]
    assert caret.endswith("^")
    at = len(caret) - 3
    assert shown[2:][at : at + 1] == text[column - 1 : column].replace("\ud800", "\ud800")


def test_a_text_field_says_how_to_compare_whole_values() -> None:
    fields = {**FIELDS, "metadata.notes": "text"}
    with pytest.raises(FilterError, match=r"notes is a text field and has no =; it has ~, .*declare notes as keyword"):
        build_filter("notes = 'x'", fields)
    with pytest.raises(FilterError, match="holds no word"):
        build_filter("notes ~ '--'", fields)


def test_the_caret_stands_under_the_place_for_wide_characters_and_tabs() -> None:
    with pytest.raises(FilterError) as raised:
        build_filter("album = '木木' and\t?", FIELDS)
    assert str(raised.value).split("\n")[1:] == ["  album = '木木' and ?", "  " + " " * 19 + "^"]


def test_only_a_part_of_a_long_text_is_shown() -> None:
    with pytest.raises(FilterError) as raised:
        build_filter("year = 1 and " * 1000 + "! and year = 2" * 100, FIELDS)
    assert raised.value.column == 13_001
    assert max(map(len, str(raised.value).split("\n")[1:])) < 130


def test_a_megabyte_of_text_is_refused_at_once() -> None:
    with pytest.raises(FilterError, match="262144 is the most; in Python a dict may hold more"):
        build_filter("album = '" + "a" * 1_000_000 + "'", FIELDS)
    for operator in ("=", "in", "^=", "~"):
        with pytest.raises(FilterError, match="no field holds more than 65536 bytes; shorten it"):
            build_filter({"album": {operator: ["a" * 10**6] if operator == "in" else "a" * 10**6}}, FIELDS)
    assert build_filter({"album": [f"album {i}" for i in range(100_000)]}, FIELDS) is not None


@pytest.mark.parametrize(
    "value", ["\ud800", float("nan"), b"x", object(), {"=": {"=": 1}}, [[1]], 10**400, float("inf"), {"within": [1]}]
)
@pytest.mark.parametrize("field", ["album", "year", "caption", "location", "taken_at", "taken_at.month", "liked"])
def test_values_of_every_wrong_kind_are_refused(field: str, value: Any) -> None:
    for operator in ("=", "~", "^=", "in", "between", "<", "within"):
        given = [value, value] if operator in ("in", "between") else value
        with pytest.raises(FilterError) as raised:
            build_filter({field: {operator: given}}, FIELDS)
        assert len(str(raised.value)) < 400


@pytest.mark.parametrize("text", ["(year = 1 and not " * 30 + "year = 1" + ")" * 30])
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(FilterError, match="levels deep"):
        build_filter(text, FIELDS)
    where: Any = {"year": 1}
    for _ in range(5000):
        where = {"not": where}
    with pytest.raises(FilterError, match="nested deeper than 32 levels"):
        build_filter(where, FIELDS)


def test_parentheses_and_not_alone_are_no_nesting() -> None:
    wanted = build_filter("year = 1", FIELDS)
    assert build_filter("(" * 20_000 + "year = 1" + ")" * 20_000, FIELDS) == wanted
    assert build_filter("not " * 20_000 + "year = 1", FIELDS) == wanted


@pytest.mark.parametrize("where", [None, "", " \n", {}])
def test_nothing_is_no_filter(where: Any) -> None:
    assert build_filter(where, FIELDS) is None


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"yaer": 1}, "did you mean year?"),
        ({"year": {"=>": 1}}, "where['year']['=>']: there is no such operator; there are =, !=,"),
        ({"year": {}}, "where['year'] is an empty dict"),
        ({"year": []}, "takes a list of at least one values, not [] (list)"),
        ({"year": {"between": [1]}}, "takes a list of 2 values"),
        ({"year": "2022"}, "where['year']['=']: year is an integer field"),
        ({"year": {"is null": 1}}, "takes True or False"),
        ({"year": 10**5000}, "beyond the integers of 64 bits"),
        ({"score": float("nan")}, "not a number"),
        ({"album": [None]}, "compare it with text"),
        ({"taken_at": np.datetime64("NaT")}, "no moment"),
        ({"location": {"within": 5}}, 'takes {"km": 5, "of": (lat, lon)}'),
        ({"location": {"within": {"box": [1, 2]}}}, '{"box": (south, west, north, east)}'),
        ({"location": {"within": {"polygon": [(1, 2), 3]}}}, '{"polygon": [(lat, lon), …]}'),
        ({"location": {"within": {"polygon": [(1, 2), (3, 4), (5, float("nan"))]}}}, "nan is not a number"),
        ({"location": {"within box": [1, 2, 3, 4]}}, "there is no such operator"),
        ({"and": []}, "where['and'] must be a list of at least one where"),
        ({"or": [{}]}, "where['or'][0] is empty"),
        ({"not": ""}, "where['not'] is empty"),
        ({3: 1}, "3 (int) is no field name"),
        (3, "where must be text, a dict or a models.Filter, not 3 (int)"),
        ({"and": ["year = "]}, "but the text ends here"),
    ],
)
def test_a_wrong_dict_is_refused(where: Any, says: str) -> None:
    with pytest.raises(FilterError) as raised:
        build_filter(where, FIELDS)
    assert says in str(raised.value)


def test_a_dict_takes_numpy_dates_and_locations() -> None:
    assert build_filter({"year": np.int64(3)}, FIELDS) == build_filter("year = 3", FIELDS)
    assert build_filter({"year": np.array([1, 2])}, FIELDS) == build_filter("year in (1, 2)", FIELDS)
    assert build_filter({"taken_at": date(2024, 5, 1)}, FIELDS) == build_filter("taken_at = '2024-05-01'", FIELDS)
    exact = build_filter({"taken_at": {">": datetime(2024, 5, 1)}}, FIELDS)
    assert exact == build_filter("taken_at > '2024-05-01T00:00:00.0'", FIELDS)
    box = build_filter("location within box (1, 2, 3, 4)", FIELDS)
    for sides in ({"south": 1, "west": 2, "north": 3, "east": 4}, {"top_left": (3, 2), "bottom_right": Location(1, 4)}):
        assert build_filter({"location": {"within": {"box": sides}}}, FIELDS) == box
    near = build_filter({"location": {"within": {"km": 5, "of": Location(1.0, 2.0)}}}, FIELDS)
    assert near == build_filter("location within 5 km of (1.0, 2.0)", FIELDS)


def test_the_end_of_the_calendar_is_within_it() -> None:
    for text in ("taken_at <= '9999'", "taken_at > '9999-12-31'", "taken_at = '9999-12'", "taken_at < '0001'"):
        assert build_filter(text, FIELDS) is not None


def test_names_resolve_to_payload_keys() -> None:
    assert resolve_field("year", FIELDS) == "metadata.year"
    assert resolve_field("metadata.year", FIELDS) == "metadata.year"
    assert resolve_field("image.width", FIELDS) == "image.width"
    assert resolve_field("caption", FIELDS) == "caption"
    assert resolve_field("metadata.caption", FIELDS) == "metadata.caption"
    assert resolve_field("odd name", FIELDS) == resolve_field('"odd name"', FIELDS) == 'metadata."odd name"'
    assert resolve_field("metadata.and", FIELDS) == "metadata.and"
    for key in ("odd name", "a`b", "image.width", "uri", "and", "2fa", "no-dash"):
        path = f"metadata.{join_path([key])}"
        assert resolve_field(show_field(path), {path: "keyword", "image.width": "integer", "uri": "keyword"}) == path
    assert resolve_field("dotted.key", {'metadata."dotted.key"': "keyword"}) == 'metadata."dotted.key"'
    for name in ("", "yaer", "a..b", 'q"', "image"):
        with pytest.raises(FilterError, match="there is no indexed field"):
            resolve_field(name, FIELDS)


def test_an_error_names_odd_fields_as_they_are_written() -> None:
    with pytest.raises(
        FilterError, match=r"the fields are a\.b, album, metadata\.and, metadata\.caption, liked, `odd name`, score"
    ):
        resolve_field("zzzzzz", FIELDS)
    with pytest.raises(FilterError, match=r"did you mean `odd name`\?"):
        build_filter("`old name` = 'x'", FIELDS)
    assert build_filter("`odd name` = 'x' and `and` = 'y'", FIELDS) is not None


def test_a_models_filter_passes_if_its_fields_are_indexed() -> None:
    year = models.FieldCondition(key="metadata.year", match=models.MatchValue(value=3))
    where = models.Filter(must=year, must_not=[models.HasIdCondition(has_id=[1])], should=[models.Filter(must=[year])])
    assert build_filter(where, FIELDS) is where
    assert build_filter({"not": where}, FIELDS) == models.Filter(must_not=[where])
    nothing = models.IsNullCondition(is_null=models.PayloadField(key="metadata.a[].b"))
    assert build_filter(models.Filter(must=[nothing]), FIELDS) is not None


@pytest.mark.parametrize(
    "condition",
    [
        models.FieldCondition(key="year", match=models.MatchValue(value=3)),
        models.IsEmptyCondition(is_empty=models.PayloadField(key="nope")),
        models.IsNullCondition(is_null=models.PayloadField(key="nope")),
        models.Filter(should=[models.FieldCondition(key="nope", match=models.MatchValue(value=3))]),
        models.NestedCondition(
            nested=models.Nested(
                key="metadata.a[]",
                filter=models.Filter(must=[models.IsNullCondition(is_null=models.PayloadField(key="c"))]),
            )
        ),
    ],
)
def test_a_models_filter_on_a_field_without_index_is_refused(condition: models.Condition) -> None:
    with pytest.raises(FilterError, match="there is no indexed field"):
        build_filter(models.Filter(must_not=[condition]), FIELDS)
    counted = models.MinShould(conditions=[condition], min_count=1)
    with pytest.raises(FilterError, match="there is no indexed field"):
        build_filter(models.Filter(min_should=counted), FIELDS)


def test_a_models_filter_asks_for_the_words_of_a_text() -> None:
    for key in ("words.caption", "words.metadata.notes[].w", "calendar.taken_at", "local_time.taken_at"):
        condition = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        assert build_filter(models.Filter(must=[condition]), {**FIELDS, "metadata.notes": "text"}) is not None
    condition = models.FieldCondition(key="caption", match=models.MatchText(text="cat"))
    with pytest.raises(FilterError, match=r"its? words are indexed at words\.caption|whose words are indexed"):
        build_filter(models.Filter(must=[condition]), FIELDS)


def test_the_reserved_fields_can_all_be_asked_for() -> None:
    for name in RESERVED_FIELDS:
        assert build_filter(f"{name} exists", FIELDS) is not None
