"""What `clip-qdrant facet` prints of several fields and of ranges: tables, or one JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fakes import write_image
from program import Program, program_in

PHOTOS = {
    "a.png": {"album": "warm", "year": 2020, "liked": True, "size": 0.0, "taken_at": "2021-01-05T10:00:00"},
    "b.png": {"album": "warm", "year": 2022, "liked": False, "size": 2.5, "taken_at": "2021-03-05T23:30:00-05:00"},
    "c.png": {"album": "cold", "year": 2022, "liked": True, "size": 9.0},
    "d.png": {"album": "2024", "size": 10.0, "is it": True, "box no": "07"},
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One collection for all tests: they only read it."""
    folder = tmp_path_factory.mktemp("facets")
    with pytest.MonkeyPatch.context() as patch, program_in(folder, patch) as program:
        for number, name in enumerate(PHOTOS):
            write_image(folder / "photos" / name, (60 * number, 0, 0))
        rows = [json.dumps({"file_name": name, **fields}) for name, fields in PHOTOS.items()]
        (folder / "photos" / "metadata.jsonl").write_text("\n".join(rows))
        assert program("ingest", "photos").code == 0
        yield program


def read_tables(text: str) -> list[list[str]]:
    """The lines of the output, each as its cells."""
    return [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.strip("-+ ")]


def test_several_fields_are_a_table_each(program: Program) -> None:
    outcome = program("facet", "album", "liked", "--where", "year > 0")

    assert outcome.code == 0, outcome.err
    rows = read_tables(outcome.out)
    first, second = rows.index(["album where year > 0"]), rows.index(["liked where year > 0"])
    assert rows[first + 1] == ["value", "images"]
    assert sorted(rows[first + 2 : second]) == [["cold", "1"], ["warm", "2"]]
    assert sorted(cell.lower() for cell, _ in rows[second + 2 :]) == ["false", "true"]


def test_several_fields_are_one_json_document(program: Program) -> None:
    document = program("facet", "album", "year", "--json").json

    assert (document["collection"], document["where"], document["exact"]) == ("images", None, True)
    assert list(document["facets"]) == ["album", "year"]
    assert document["facets"]["year"] == {
        "values": [{"value": 2022, "count": 2}, {"value": 2020, "count": 1}],
        "more_values": 0,
        "more_images": 0,
    }


def test_a_chosen_value_narrows_the_other_fields_and_not_its_own(program: Program) -> None:
    document = program("facet", "album", "--select", "year=2022", "--select", "liked=true", "--json").json

    found = {field: {one["value"]: one["count"] for one in of["values"]} for field, of in document["facets"].items()}
    assert found == {"album": {"cold": 1}, "year": {2022: 1, 2020: 1}, "liked": {True: 1, False: 1}}


def test_a_chosen_value_of_a_keyword_field_stays_a_text(program: Program) -> None:
    document = program("facet", "album", "size", "--select", "album=2024", "--json")
    assert document.code == 2  # size is a number with a fraction, which has ranges and no values

    document = program("facet", "year", "album", "--select", "album=2024", "--json")
    assert document.json["facets"]["year"]["values"] == []
    assert {"value": "2024", "count": 1} in document.json["facets"]["album"]["values"]


def test_a_chosen_value_has_the_type_of_its_field_however_that_is_named(program: Program) -> None:
    for field, value in (("`is it`", "true"), ("is it", "TRUE"), ("box no", "07"), ("`box no`", "07")):
        outcome = program("facet", "album", "--select", f"{field}={value}", "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.json["facets"]["album"]["values"] == [{"value": "2024", "count": 1}]
    for wrong in ("--5", "9" * 5000, "many"):
        outcome = program("facet", "album", "--select", f"year={wrong}")
        assert (outcome.code, "compare it with a number" in outcome.err) == (2, True)


def test_what_the_limit_leaves_out_is_told(program: Program) -> None:
    shown = program("facet", "album", "-n", "1").out
    document = program("facet", "album", "-n", "1", "--json").json

    assert shown.splitlines()[-1] == "and 2 more values, of 2 images (--limit shows more)"
    assert (document["field"], document["more_values"], document["more_images"]) == ("album", 2, 2)
    assert document["values"] == [{"value": "warm", "count": 2}]


def test_dates_are_counted_by_the_month_the_clock_showed(program: Program) -> None:
    shown = program("facet", "taken_at", "--by", "month").out
    document = program("facet", "taken_at", "--by", "month", "--json").json

    rows = read_tables(shown)
    assert rows[0] == ["taken_at"]
    assert rows[1][:2] == ["taken_at", "images"]
    assert rows[2:5] == [["2021-01", "1", "#" * 40], ["2021-02", "0", ""], ["2021-03", "1", "#" * 40]]
    assert shown.splitlines()[-1] == "and 2 without taken_at"
    assert [(one["label"], one["count"]) for one in document["bins"]] == [
        ("2021-01", 1),
        ("2021-02", 0),
        ("2021-03", 1),
    ]
    assert (document["field"], document["missing"], document["outside"]) == ("taken_at", 2, 0)


def test_numbers_are_counted_in_equal_ranges_and_between_edges(program: Program) -> None:
    equal = program("facet", "size", "--bins", "2", "--json").json
    between = program("facet", "size", "--edges", "0,5,9.5", "--json").json
    shown = program("facet", "size", "--edges", "0,5,9.5").out

    assert [one["count"] for one in equal["bins"]] == [2, 2]
    assert [one["start"] for one in equal["bins"]] == pytest.approx([0, 5])
    assert [one["end"] for one in equal["bins"]] == pytest.approx([5, 10])
    assert [one["count"] for one in between["bins"]] == [2, 1]
    assert (between["missing"], between["outside"]) == (0, 1)
    assert shown.splitlines()[-1] == "and 1 outside these ranges"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["album", "year", "--bins", "3"], "take one FIELD"),
        (["year", "--bins", "3", "--select", "album=warm"], "without --select"),
        (["year", "--edges", "0,many"], "--edges takes numbers with commas between them, not '0,many'"),
        (["year", "--edges", "5,1"], "edges"),
        (["taken_at", "--by", "fortnight"], "fortnight"),
        (["album", "--select", "year"], "--select takes a field and a value"),
        (["album", "--bins", "3"], "album"),
    ],
    ids=" ".join,
)
def test_what_does_not_go_together_is_refused(program: Program, arguments: list[str], told: str) -> None:
    outcome = program("facet", *arguments)

    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.err


def test_a_histogram_of_nothing_says_so(program: Program) -> None:
    assert program("facet", "size", "--bins", "2", "--where", "year > 3000").out == "no image has a value of size\n"
