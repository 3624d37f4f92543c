"""`clip-qdrant search`, and one field of `facet`: queries by text, image and both, filters, JSON, the page."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_image
from program import Program, program_in
from tiny import tiny_checkpoint

from clip_qdrant.calibration.curves import LEVELS, Calibration
from clip_qdrant.cli import wiring
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.settings import Settings

PHOTOS = {
    "red.png": ("red", {"caption": "a red thing", "year": 2020, "album": "warm"}),
    "blue.png": ("blue", {"caption": "a blue thing", "year": 2021, "album": "cold"}),
    "magenta.png": ("magenta", {"caption": "a thing of both", "year": 2022, "album": "warm"}),
}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        rows = []
        for name, (colour, metadata) in PHOTOS.items():
            write_image(tmp_path / "photos" / name, colour)
            rows.append(json.dumps({"file_name": name, **metadata}))
        (tmp_path / "photos" / "metadata.jsonl").write_text("\n".join(rows))
        assert program("ingest", "photos").code == 0
        yield program


def names(program: Program, *arguments: str) -> list[str]:
    outcome = program("search", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return [Path(hit["uri"]).name for hit in outcome.json["hits"]]


def test_a_text_finds_the_nearest_image_first(program: Program) -> None:
    assert names(program, "red") == ["red.png", "magenta.png", "blue.png"]


def test_an_image_finds_images_like_it(program: Program) -> None:
    assert names(program, "--image", "photos/blue.png")[0] == "blue.png"


def test_text_and_image_add_up(program: Program) -> None:
    assert names(program, "red", "--image", "photos/blue.png")[0] == "magenta.png"


def test_a_stored_image_finds_the_others(program: Program) -> None:
    assert names(program, "--like", "photos/red.png")[0] == "magenta.png"


def test_words_are_looked_for_alone_and_beside_the_query(program: Program) -> None:
    assert names(program, "--text", "both") == ["magenta.png"]
    assert names(program, "red", "--text", "both")[0] == "magenta.png"
    assert names(program, "red both", "--words")[0] in ("red.png", "magenta.png")
    assert names(program, "--text", "nothing") == []
    outcome = program("search", "red", "--text", "both", "--words")
    assert (outcome.code, "give one of them" in outcome.err) == (2, True)


def test_the_fields_to_look_for_words_in_are_named_and_weighted(program: Program) -> None:
    assert names(program, "--text", "both", "--text-fields", "caption=2, album") == ["magenta.png"]
    assert names(program, "--text", "both", "--text-fields", "album") == []
    refused = program("search", "--text", "both", "--text-fields", "caption=much")
    assert (refused.code, "as in caption=1,album=0.5, not 'caption=much'" in refused.err) == (2, True)
    alone = program("search", "red", "--text-fields", "caption")
    assert (
        alone.code,
        "--text-fields says where to look for words: give --words, or --text WORDS too" in alone.err,
    ) == (2, True)


def test_not_leads_away(program: Program) -> None:
    assert names(program, "magenta", "-n", "1") == ["magenta.png"]
    assert names(program, "magenta", "--not", "blue", "--not", "blue", "-n", "1") == ["red.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are Unicode there")
@pytest.mark.parametrize("arguments", [["caf\udce9"], ["red", "--not", "caf\udce9"]])
def test_a_text_that_is_no_unicode_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    save_checkpoint(tiny_checkpoint(), program.folder / "tiny.pt")
    embedder = ClipEmbedder.load("tiny.pt", runtime="torch", device="cpu")
    monkeypatch.setattr(wiring, "open_embedder", lambda _: embedder)
    assert program("ingest", "photos", "--collection", "tiny").code == 0

    outcome = program("search", *arguments, "--collection", "tiny")

    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err == "error: the text 'caf\\udce9' is not valid Unicode: was it read as UTF-8?\n"


def test_where_filters(program: Program) -> None:
    assert names(program, "red", "--where", "year >= 2021 and album = 'warm'") == ["magenta.png"]


def test_limit_and_offset_page_through_the_result(program: Program) -> None:
    assert names(program, "red", "--limit", "1", "--offset", "1") == ["magenta.png"]


def test_a_score_threshold_cuts_the_result(program: Program) -> None:
    assert names(program, "red", "--score-threshold", "0.95") == ["red.png"]


def test_another_collection_is_searched_by_name(program: Program) -> None:
    write_image(program.folder / "other" / "green.png", "green")
    program("ingest", "other", "--collection", "other")

    assert names(program, "red", "--collection", "other") == ["green.png"]


def test_json_is_one_document_with_the_payload_as_stored(program: Program) -> None:
    outcome = program("search", "red", "--where", "year = 2020", "--json")

    assert outcome.err == ""
    assert outcome.json["query"] == "red"
    assert outcome.json["where"] == "year = 2020"
    (hit,) = outcome.json["hits"]
    assert hit["caption"] == "a red thing"
    assert hit["metadata"] == {"year": 2020, "album": "warm"}
    assert hit["image"]["format"] == "PNG"
    assert 0.9 < hit["score"] <= 1.0


def test_the_table_has_score_caption_metadata_and_file(program: Program) -> None:
    outcome = program("search", "red", "-n", "1")

    line = next(line for line in outcome.out.splitlines() if "a red thing" in line)
    score = float(line.split("|")[1])
    assert 0.9 < score <= 1.0
    assert "year=2020" in line
    assert "photos/red.png" in line


def test_ranks_go_on_behind_an_offset(program: Program) -> None:
    outcome = program("search", "red", "-n", "1", "--offset", "2")

    assert outcome.out.splitlines()[-1].split("|")[0].strip() == "3"


def test_nothing_found_is_said(program: Program) -> None:
    outcome = program("search", "red", "--where", "year > 3000")

    assert outcome.code == 0
    assert outcome.out == "red where year > 3000: nothing found; the filter selects no image\n"


def test_the_page_holds_the_result_and_loads_nothing(program: Program) -> None:
    outcome = program("search", "red", "--html", "out/page.html", "-n", "2")

    page = (program.folder / "out" / "page.html").read_text()
    assert "written to out/page.html" in outcome.out
    assert page.count("data:image/jpeg;base64,") == 2
    assert "a red thing" in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_page_that_cannot_be_written_is_an_error(program: Program) -> None:
    (program.folder / "file").write_text("")

    outcome = program("search", "red", "--html", "file/page.html")

    assert outcome.code == 2
    assert outcome.err.startswith("error: cannot write file/page.html")


def test_a_wrong_filter_is_told_with_the_place_in_it(program: Program) -> None:
    outcome = program("search", "red", "--where", "year >>= 2020")

    assert outcome.code == 2
    where, mark = outcome.err.splitlines()[1:3]
    assert where.strip() == "year >>= 2020"
    assert mark.strip() == "^"
    assert mark.index("^") - where.index("year") == 6


def test_an_image_that_is_none_is_told_by_name(program: Program) -> None:
    (program.folder / "text.jpg").write_text("no image")

    outcome = program("search", "--image", "text.jpg")

    assert outcome.code == 5
    assert "text.jpg" in outcome.err


def test_facet_counts_values_most_frequent_first(program: Program) -> None:
    outcome = program("facet", "album", "--json")

    assert outcome.json["values"] == [{"value": "warm", "count": 2}, {"value": "cold", "count": 1}]


def test_facet_filters_and_limits(program: Program) -> None:
    outcome = program("facet", "year", "--where", "album = 'warm'", "--limit", "1", "--json")

    ((value),) = outcome.json["values"]
    assert value["count"] == 1
    assert value["value"] in (2020, 2022)


def test_facet_as_a_table(program: Program) -> None:
    rows = [[cell.strip() for cell in line.split("|")] for line in program("facet", "album").out.splitlines()]

    assert ["warm", "2"] in rows
    assert ["cold", "1"] in rows


def test_facet_of_nothing_says_so(program: Program) -> None:
    assert program("facet", "album", "--where", "year > 3000").out == "no image has a value of album\n"


def test_facet_of_an_unknown_field_names_the_fields(program: Program) -> None:
    outcome = program("facet", "albun")

    assert outcome.code == 2
    assert "album" in outcome.err


def test_relevance_is_shown_and_may_be_asked_for(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    before = program("search", "red", "--min-relevance", "auto")
    calibration = Calibration(tuple(0.9 * level for level in LEVELS), LEVELS, 0.98)
    open_embedder = wiring.open_embedder

    def open_calibrated(settings: Settings) -> Embedder:
        embedder = open_embedder(settings)
        embedder.calibration = calibration  # type: ignore[attr-defined]  # an embedder may have one
        return embedder

    monkeypatch.setattr(wiring, "open_embedder", open_calibrated)
    shown = program("search", "red")
    likely = program("search", "red", "--min-relevance", "auto", "--json")
    unlikely = program("search", "the figures of the third quarter")
    nothing = program("search", "the figures of the third quarter", "--min-relevance", "auto")
    wrong = program("search", "red", "--min-relevance", "often")

    assert before.code == 2
    assert "clip-qdrant calibrate" in before.err
    assert "relevance" in shown.out
    assert "is likely to match" not in shown.out
    assert [Path(hit["uri"]).name for hit in likely.json["hits"]] == ["red.png"]
    assert "none of these is likely to match: that takes a relevance of 0.980" in unlikely.out
    assert nothing.code == 0
    assert "nothing found; none of 3 images is likely to match" in nothing.out
    assert wrong.code == 2
    assert "'often'" in wrong.err


def test_calibrating_a_small_collection_says_what_it_takes(program: Program) -> None:
    outcome = program("calibrate")

    assert outcome.code == 2
    assert "3 images, too few to tell what is random: ingest at least 30" in outcome.err


def test_calibrating_keeps_what_it_measured(program: Program, tmp_path: Path) -> None:
    for number in range(30):
        write_image(tmp_path / "photos" / f"{number}.png", (8 * number, 255 - 8 * number, number))
    assert program("ingest", "photos").code == 0

    told, found = program("calibrate"), program("calibrate", "--json")

    assert "is calibrated: a likely match has a relevance of" in told.out
    assert 0 < found.json["cutoff"] <= 1
    assert program("search", "red", "--min-relevance", "auto", "--json").json["hits"][0]["relevance"] > 0.9


def test_without_a_query_all_images_are_listed_in_order(program: Program) -> None:
    assert names(program, "--order-by", "-year") == ["magenta.png", "blue.png", "red.png"]
    assert names(program, "--where", "album = 'warm'", "--order-by", "year") == ["red.png", "magenta.png"]
    assert program("search").out.startswith("all images\n")


def test_hits_are_grouped_collapsed_and_explained(program: Program) -> None:
    write_image(program.folder / "photos" / "again.png", "red")
    assert program("ingest", "photos").code == 0

    hits = program("search", "red", "--collapse", "bytes", "--json").json["hits"]
    assert [len(hit.get("copies", ())) for hit in hits] == [1, 0, 0]
    assert "| +1" in program("search", "red", "--collapse", "bytes").out
    told = program("search", "red", "--not", "blue", "--explain")
    assert "metadata" not in told.err
    assert "embedding" in told.out
    assert "Query.text('blue')" in told.out
    assert told.out.startswith("red, not blue\n")
    assert ", words 1." in program("search", "red", "--text", "both", "--explain").out
    assert len(program("search", "red " * 10_000).out.splitlines()[0]) < 300
    assert program("search", "red", "--explain", "--json").json["explanation"]["seconds"]["store"] > 0


def test_a_box_is_a_part_of_the_image(program: Program) -> None:
    assert names(program, "--image", "photos/blue.png", "--box", "0,0,5,5")[0] == "blue.png"
    for box, message in (("0,0,99,99", "24 x 16 pixels"), ("a,b", "left,top,right,bottom"), ("1,2", "left, top")):
        outcome = program("search", "--image", "photos/blue.png", "--box", box)
        assert (outcome.code, message in outcome.err) == (2, True)
    assert "of one --image" in program("search", "red", "--box", "0,0,5,5").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["red", "--collapse", "pixels"], "collapse must be one of 'bytes', 'shot', 'similar'"),
        (["red", "--limit", "1000000000"], "at most 100000"),
        (["red", "--diversity", "2"], "diversity"),
        (["--order-by", "colour"], "order_by='colour'"),
        (["--diversity", "0.5"], "give a query"),
        (["--words"], "--text WORDS"),
        (["--not", "blue"], "give a text, --image FILE or --like IMAGE"),
    ],
)
def test_wrong_options_are_refused_with_the_way_out(program: Program, arguments: list[str], message: str) -> None:
    outcome = program("search", *arguments)

    assert outcome.code == 2
    assert message in outcome.err
