"""Facets and histograms count exactly what there is, tell the rest, and count each field under the others' choices."""

from __future__ import annotations

import random
import re
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.facets.values import Facets
from clip_qdrant.collection.hits import Facet
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.records import ImageRecord

START = datetime(2021, 11, 5, 23, 30)


def make_rows() -> list[dict[str, Any]]:
    rng = random.Random(7)
    rows = []
    for number in range(60):
        at = START + timedelta(hours=rng.choice([0, 30, 900, 9000, 20_000]) + number)
        row = {
            "album": rng.choice(["pets", "sea", "city", None]),
            "year": rng.choice([2019, 2020, 2024]),
            "liked": rng.random() < 0.5,
            "stars": rng.choice([0.5, 2.0, 4.75]),
            "name": f"n{number}",
            "taken_at": at if number % 7 else None,
        }
        rows.append({key: value for key, value in row.items() if value is not None})
    return rows


ROWS = make_rows()


@pytest.fixture
def photos(client: QdrantBase, collection_name: str) -> Any:
    photos = ImageCollection(collection_name, FakeEmbedder(), client)
    records = [ImageRecord(f"urn:x:{number}", metadata=row) for number, row in enumerate(ROWS)]
    photos.writer.write(records, np.tile(np.eye(16, dtype=np.float32)[:1], (len(records), 1)))
    yield photos
    photos.drop()


def count(field: str, rows: list[dict[str, Any]]) -> dict[Any, int]:
    return dict(Counter(row[field] for row in rows if field in row))


def test_a_facet_tells_how_many_values_and_images_are_not_shown(photos: ImageCollection) -> None:
    names = photos.facet("name", limit=4)
    assert (len(names), names.more_values, names.more_images) == (4, 56, 56)
    albums = photos.facet("album", where="year = 2020")
    assert {each.value: each.count for each in albums} == count("album", [row for row in ROWS if row["year"] == 2020])
    assert (albums.more_values, albums.more_images) == (0, 0)
    months = photos.facet("taken_at.month")
    dated = [row["taken_at"] for row in ROWS if "taken_at" in row]
    assert {each.value: each.count for each in months} == Counter(at.month for at in dated)
    assert [each.count for each in months] == sorted((each.count for each in months), reverse=True)
    days = photos.facet("taken_at.yearday", limit=2)
    assert days[0] == Facet(*Counter(f"{at:%m-%d}" for at in dated).most_common(1)[0])
    assert days.more_images == len(dated) - days[0].count - days[1].count
    with pytest.raises(FilterError, match=r"datetime.*count it by year, month, day or hour \(--by; in Python"):
        photos.facet("taken_at")


def test_facets_count_each_field_under_the_choices_of_all_others(photos: ImageCollection) -> None:
    chosen: dict[str, list[Any]] = {"album": ["pets", "sea"], "year": [2020], "liked": [True], "taken_at.month": []}
    found = photos.facets(chosen, where="stars > 1", limit=1)
    for field in ("album", "year", "liked"):
        rows = [
            row
            for row in ROWS
            if row["stars"] > 1
            and all(row.get(other) in values for other, values in chosen.items() if other != field and values)
        ]
        counts = count(field, rows)
        shown = {each.value: each.count for each in found[field]}
        assert all(counts.get(value, 0) == number for value, number in shown.items())
        assert set(chosen[field]) <= set(shown)
        assert found[field].more_values == len(counts.keys() - shown.keys())
        assert found[field].more_images == sum(counts.values()) - sum(shown.values())
    none = photos.facets({"album": ["mountains"], "year": []})
    assert none["album"][-1] == Facet("mountains", 0)
    assert none["year"] == []
    with pytest.raises(QueryError, match="takes a list of the chosen values"):
        photos.facets({"album": "pets"})
    with pytest.raises(FilterError, match="text in quotes"):
        photos.facets({"album": [3], "year": []})


def test_chosen_values_are_read_as_a_filter_reads_them(photos: ImageCollection) -> None:
    for field, chosen, value in (
        ("taken_at.month", ["dec", "December", 12.0], 12),
        ("taken_at.weekday", ["sat"], 6),
        ("taken_at.yearday", ["11-06"], "11-06"),
        ("year", [2020.0, np.int64(2020)], 2020),
        ("liked", [np.bool_(True)], True),
        ("album", (np.str_("sea"),), "sea"),
    ):
        shown = photos.facets({field: chosen}, limit=100)[field]
        assert shown == photos.facet(field, limit=100)
        first = photos.facet(field, limit=1)
        wanted = [each for each in shown if each.value == value]
        assert photos.facets({field: chosen}, limit=1)[field] == list(dict.fromkeys([*first, *wanted]))
        assert [type(each.value) for each in wanted] == [type(value)]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("album", 3, "album is a keyword field: compare it with text in quotes, not 3"),
        ("liked", 1, "liked is a bool field: compare it with true or false, not 1"),
        ("liked", {"exists": True}, "liked is a bool field: compare it with true or false"),
        ("liked", None, "None is no value of 'liked'; for the images without one give where={'liked': None}"),
        ("year", "2020", "year is an integer field: compare it with a number, without quotes"),
        ("year", True, "year is an integer field: compare it with a number, not True"),
        ("taken_at.month", "decem", "taken_at.month takes a number from 1 to 12"),
        ("taken_at.month", 13, "taken_at.month takes a number from 1 to 12"),
    ],
)
def test_a_chosen_value_that_does_not_fit_its_field_is_refused_whatever_else_is_counted(
    photos: ImageCollection, field: str, value: Any, says: str
) -> None:
    chosen: list[dict[str, list[Any]]] = [{field: [value]}, {field: [value], "name": []}]
    for selected in chosen:
        for limit in (1, 100):
            with pytest.raises(FilterError, match=re.escape(says)):
                photos.facets(selected, limit=limit)


def test_a_histogram_of_dates_tells_empty_months_too(photos: ImageCollection) -> None:
    dated = sorted(row["taken_at"] for row in ROWS if "taken_at" in row)
    for by, form in (("year", "%Y"), ("month", "%Y-%m"), ("day", "%Y-%m-%d")):
        found = photos.histogram("taken_at", by=by)  # type: ignore[arg-type]  # a str that is one of them
        assert {each.label: each.count for each in found if each.count} == Counter(at.strftime(form) for at in dated)
        assert all(each.end == after.start for each, after in pairwise(found))
        assert found[0].start <= dated[0] < found[0].end
        assert found[-1].start <= dated[-1] < found[-1].end
        assert found.missing == len(ROWS) - len(dated)
    assert any(each.count == 0 for each in photos.histogram("taken_at", by="month"))
    hours = photos.histogram("taken_at", by="hour", where="taken_at < '2021-11-07'")
    assert hours[0].label == dated[0].strftime("%Y-%m-%dT%H")
    assert sum(each.count for each in hours) == sum(at < datetime(2021, 11, 7) for at in dated)
    with pytest.raises(QueryError, match="2000 is the most: say a longer period, or narrow it"):
        photos.histogram("taken_at", by="hour")


def test_an_image_of_several_values_is_outside_where_all_of_them_are(photos: ImageCollection) -> None:
    several = [[0, 5], [0, 99], [5, 99], [0], []]
    records = [ImageRecord(f"urn:several:{i}", metadata={"marks": marks}) for i, marks in enumerate(several)]
    photos.writer.write(records, np.tile(np.eye(16, dtype=np.float32)[:1], (len(records), 1)))

    marks = photos.histogram("marks", edges=[1, 10])

    assert ([each.count for each in marks], marks.outside, marks.missing) == ([2], 2, len(ROWS) + 1)


def test_a_histogram_reaches_to_both_ends_of_the_calendar(client: QdrantBase, collection_name: str) -> None:
    photos = ImageCollection(collection_name, FakeEmbedder(), client, fields={"until": "datetime"})
    dates = ["0001-01-01", "0987-06-05T04:00", "9999-11-30", "9999-12-31", "9999-12-31T23:59:59.999999"]
    records = [ImageRecord(f"urn:{one}", metadata={"until": one}) for one in dates]
    photos.writer.write(records, np.tile(np.eye(16, dtype=np.float32)[:1], (len(records), 1)))

    def show(by: Any, where: str) -> dict[str, int]:
        return {each.label: each.count for each in photos.histogram("until", by=by, where=where) if each.count}

    assert show("year", "until > '2000'") == {"9999": 3}
    assert show("month", "until > '2000'") == {"9999-11": 1, "9999-12": 2}
    assert show("day", "until > '2000'") == {"9999-11-30": 1, "9999-12-31": 2}
    assert show("hour", "until = '9999-12-31'") == {"9999-12-31T00": 1, "9999-12-31T23": 1}
    early = show("year", "until < '2000'")
    assert early == {"0001": 1, "0987": 1}
    assert [photos.count(f"until = '{label}'") for label in early] == [1, 1]
    with pytest.raises(QueryError, match=r"until is from 0001 to 9999, .* as in \"until >= '9999'\""):
        photos.histogram("until", by="year")


def test_a_histogram_of_numbers_has_ranges_of_equal_width_or_the_edges_given(photos: ImageCollection) -> None:
    years = photos.histogram("year", bins=3)
    assert [(each.start, each.end) for each in years] == [(2019, 2021), (2021, 2023), (2023, 2024)]
    counts = count("year", ROWS)
    assert [each.count for each in years] == [counts[2019] + counts[2020], 0, counts[2024]]
    assert photos.histogram("year", bins=np.int64(3)) == years  # type: ignore[arg-type]  # as numbers of numpy come
    assert photos.histogram("year", edges=np.array([2019, 2021, 2023, 2024])) == years  # type: ignore[arg-type]
    stars = photos.histogram("stars", edges=[0.5, 2, 3])
    counts = count("stars", ROWS)
    assert ([each.count for each in stars], stars.outside) == ([counts[0.5], counts[2.0]], counts[4.75])
    every = photos.histogram("stars")
    assert sum(each.count for each in every) == len(ROWS)
    assert (every[0].start, every[-1].end) == (0.5, 4.75)
    assert photos.histogram("year", where="year = 2024")[0].count == count("year", ROWS)[2024]
    assert photos.histogram("year", where="year = 1") == []


@pytest.mark.parametrize(
    ("field", "options", "says"),
    [
        ("album", {}, "count its values, without --by, --bins"),
        ("year", {"by": "month"}, "--bins 10, bins=10"),
        ("taken_at", {"bins": 3}, "by year, month, day or hour \\(--by month"),
        ("taken_at", {"by": "week"}, "by year, month, day or hour .*, not by 'week'"),
        ("year", {"bins": 0}, "a whole number from 1 to 2000"),
        ("year", {"bins": 10**9}, "a whole number from 1 to 2000"),
        ("year", {"edges": [1, float("nan")]}, "finite numbers, not nan"),
        ("year", {"edges": 5}, "edges takes a list of numbers, not 5"),
        ("year", {"edges": [2, 1]}, "each greater than the one before"),
        ("year", {"edges": [1, 2], "bins": 3}, "give one of them"),
    ],
)
def test_ranges_that_do_not_fit_a_field_are_refused(
    photos: ImageCollection, field: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(QueryError, match=says):
        photos.histogram(field, **options)


def test_what_is_no_name_of_a_field_is_refused(photos: ImageCollection) -> None:
    wrong: Any = 3
    for count in (photos.facet, photos.histogram):
        with pytest.raises(FilterError, match="named by text, not by 3"):
            count(wrong)
    wrong = ["album"]
    with pytest.raises(QueryError, match="chosen values by field"):
        photos.facets(wrong)


def test_a_collection_that_is_not_there_has_nothing_to_count(memory_client: QdrantBase) -> None:
    photos = ImageCollection("none", FakeEmbedder(), memory_client)
    assert photos.facets({"album": ["pets"]}) == {"album": Facets()}
    assert photos.histogram("taken_at", by="year") == []
