"""`clip-qdrant models` lists models to choose from, and who uses the bundled one is told of it once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_image
from program import Program, program_in

from clip_qdrant.cli.app import run
from clip_qdrant.content import BUNDLED
from clip_qdrant.model_catalog import CATALOG, SPEEDS, suggest_model
from clip_qdrant.model_names import parse_hub_name
from clip_qdrant.pages.hits import page_html

DOCS = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


def test_the_table_fits_a_hundred_columns_and_recommends_one_model_for_cpus_and_one_for_gpus(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run(["models"]) == 0
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 100
    for entry in CATALOG:
        assert entry.name in told  # whole: it is there to be copied
    assert "for CPUs: clip-qdrant ingest FOLDER --model hf:google/siglip2-base-patch32-256" in told
    assert [entry.advice for entry in CATALOG].count("CPUs") == [entry.advice for entry in CATALOG].count("GPUs") == 1


def test_json_has_every_figure_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert [entry["name"] for entry in listed] == [entry.name for entry in CATALOG]
    for entry in listed:
        assert entry["source"] or not (entry["flickr30k"] or entry["coco"] or entry["imagenet"])
        assert entry["speed"] in SPEEDS


def test_every_name_is_one_that_loads() -> None:
    for entry in CATALOG:
        assert entry.name == BUNDLED or str(parse_hub_name(entry.name.removeprefix("hf:"))) == entry.name


def test_the_documentation_has_the_same_rows() -> None:
    rows = {
        row[0]: row[1:] for row in re.findall(r"^\| `(\S+)` \| (\d+) \| (\S+) \| ([\d.]*) ?\| ", DOCS, re.MULTILINE)
    }
    expected = {
        entry.name: (str(entry.megabytes), entry.license, "" if entry.flickr30k is None else f"{entry.flickr30k}")
        for entry in CATALOG
    }
    assert rows == expected


def test_only_who_uses_the_bundled_model_is_told_of_others() -> None:
    told = suggest_model(BUNDLED)
    assert told is not None
    assert "such as hf:google/siglip2-base-patch32-256, on a GPU hf:google/siglip2-so400m-patch16-256" in told
    assert "\n" not in told
    assert suggest_model("mine.pt") is suggest_model("hf:some/model") is None
    assert "<footer" not in page_html("a dog", [])
    assert f'<footer class="note">{told}</footer>' in page_html("a dog", [], footer=told)


def test_info_and_the_page_of_results_name_a_larger_model_in_one_line(program: Program) -> None:
    write_image(program.folder / "photos" / "a.png", "red")
    program("ingest", "photos")
    program("search", "red", "--html", "hits.html")
    page, told = (program.folder / "hits.html").read_text(), program("info").out
    for text in (page, told):
        assert text.count("larger models find more") == 1
        assert "clip-qdrant models" in text
    assert "larger models" not in program("info", "--model", "mine.pt").out
