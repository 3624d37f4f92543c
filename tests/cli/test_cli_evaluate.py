"""`clip-qdrant evaluate`: figures of one model or several, as a table, as JSON, as a page, and as a verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, write_image
from PIL import Image
from program import Outcome, Program, program_in

from clip_qdrant.cli import wiring
from clip_qdrant.settings import Settings


class Blind(FakeEmbedder):
    """Takes every image for the same."""

    def preprocess(self, rgb: Image.Image) -> np.ndarray:
        return super().preprocess(Image.new("RGB", rgb.size))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        blind = Blind(name="blind")
        embedders = {"blind.pt": blind}

        def open_embedder(settings: Settings) -> FakeEmbedder:
            return embedders.get(settings.model, program.embedder)

        monkeypatch.setattr(wiring, "open_embedder", open_embedder)
        rows = []
        for colour in COLOURS:
            write_image(tmp_path / "images" / f"{colour}.png", colour)
            rows.append(json.dumps({"image": f"images/{colour}.png", "captions": [colour, f"{colour} {colour}"]}))
        (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
        yield program


def cells(outcome: Outcome) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in outcome.out.splitlines()]


def test_evaluate_measures_recall(program: Program) -> None:
    outcome = program("evaluate", "bundled", "pairs.jsonl", "--json")

    assert outcome.code == 0
    assert list(outcome.json) == ["model", "fingerprint", "images", "captions", "metrics", "intervals"]
    assert outcome.json["model"] == "bundled"
    assert outcome.json["images"] == len(COLOURS)
    assert outcome.json["captions"] == 2 * len(COLOURS)
    assert outcome.json["fingerprint"] == program.embedder.fingerprint
    assert outcome.json["metrics"]["text_to_image_recall@1"] == 100.0
    assert outcome.json["intervals"]["text_to_image_recall@1"] == [100.0, 100.0]


def test_evaluate_shows_both_directions_with_intervals(program: Program) -> None:
    outcome = program("evaluate", "bundled", "pairs.jsonl")
    rows = cells(outcome)

    assert "over 8 images and 16 captions, with 95 % intervals" in outcome.out
    assert ["text to image R@1", "100.0 [100.0, 100.0]"] in rows
    assert ["image to text R@10", "100.0 [100.0, 100.0]"] in rows
    assert ["text to image median rank", "1.0 [1.0, 1.0]"] in rows
    assert ["image to text MRR", "1.000 [1.000, 1.000]"] in rows


def test_intervals_are_left_out_on_demand(program: Program) -> None:
    assert ["text to image R@1", "100.0"] in cells(program("evaluate", "bundled", "pairs.jsonl", "--bootstrap", "0"))
    assert "intervals" not in program("evaluate", "bundled", "pairs.jsonl", "--bootstrap", "0", "--json").json

    refused = program("evaluate", "bundled", "pairs.jsonl", "--bootstrap", "1")
    assert refused.code == 2
    assert "--bootstrap is 1" in refused.err


def test_models_stand_side_by_side(program: Program) -> None:
    rows = cells(program("evaluate", "bundled", "blind.pt", "pairs.jsonl", "--bootstrap", "0"))

    assert ["", "bundled", "blind.pt"] in rows
    assert ["text to image R@1", "100.0", "0.0"] in rows
    assert ["text to image median rank", "1.0", "8.0"] in rows

    document = program("evaluate", "bundled", "blind.pt", "pairs.jsonl", "--json").json
    assert list(document) == ["images", "captions", "models"]
    assert [model["model"] for model in document["models"]] == ["bundled", "blind.pt"]
    assert document["models"][1]["metrics"]["text_to_image_recall@1"] == 0


def test_everything_that_can_be_measured_is_shown_on_demand(program: Program) -> None:
    extra = ("--zero-shot", "classes", "--robustness", "--speed", "--bootstrap", "0")
    for colour in ("red", "blue"):
        write_image(program.folder / "classes" / colour / "1.png", colour)
    rows = cells(program("evaluate", "mine.pt", "pairs.jsonl", *extra))
    names = [row[0] for row in rows if len(row) == 2]

    assert {"zero-shot accuracy@1", "blur", "typo", "images a second", "ms for one text", "parameters"} <= set(names)
    assert ["length of a vector", "16"] in rows
    assert ["parameters", "unknown"] in rows
    document = program("evaluate", "mine.pt", "pairs.jsonl", "--json", *extra).json
    assert {"zero_shot", "robustness", "speed", "size"} <= set(document)


def test_a_model_below_what_is_asked_fails(program: Program) -> None:
    ask = ("--fail-under", "text_to_image_recall@1=90", "--fail-under", "image_to_text_mrr=0.5")
    fine = program("evaluate", "bundled", "pairs.jsonl", *ask)
    assert (fine.code, fine.err) == (0, "")

    outcome = program("evaluate", "bundled", "blind.pt", "pairs.jsonl", "--json", *ask)
    assert outcome.code == 1
    assert outcome.json["models"]  # the figures are told all the same
    assert outcome.err.splitlines()[0] == "error: blind.pt: text_to_image_recall@1 is 0, under 90"
    assert "image_to_text_mrr" in outcome.err
    assert "bundled" not in outcome.err


@pytest.mark.parametrize("text", ["text_to_image_recall@1", "=3", "text_to_image_recall@1=nan", "a=b"])
def test_a_bound_that_cannot_be_read_is_told(program: Program, text: str) -> None:
    outcome = program("evaluate", "bundled", "pairs.jsonl", "--fail-under", text)

    assert outcome.code == 2
    assert f"--fail-under is {text!r}" in outcome.err


@pytest.mark.parametrize("name", ["recall@1", "text_to_image_median_rank", "zero_shot_accuracy@1"])
def test_a_bound_of_what_is_not_measured_is_told_before_anything_is(program: Program, name: str) -> None:
    outcome = program("evaluate", "bundled", "pairs.jsonl", "--fail-under", f"{name}=1")

    assert outcome.code == 2
    assert f"names '{name}', which is not measured; there are text_to_image_recall@1" in outcome.err
    assert program.embedder.image_calls == []


def test_the_report_is_written_beside_the_figures(program: Program) -> None:
    outcome = program("evaluate", "bundled", "blind.pt", "pairs.jsonl", "--report", "out/page.html", "--json")

    assert outcome.code == 0
    assert outcome.json["models"]
    assert outcome.err == "report written to out/page.html\n"
    page = (program.folder / "out" / "page.html").read_text(encoding="utf-8")
    assert "bundled, blind.pt on pairs.jsonl" in page
    assert page.count("Worst queries") == 2


def test_data_without_a_model_is_told(program: Program) -> None:
    outcome = program("evaluate", "pairs.jsonl")

    assert outcome.code == 2
    assert "only 'pairs.jsonl' is given: name at least one model" in outcome.err


def test_a_part_of_the_data_and_the_folder_of_its_images_are_handed_on(program: Program) -> None:
    table = "image,caption\n" + "".join(f"{colour}.png,{colour}\n" for colour in COLOURS)
    (program.folder / "elsewhere").mkdir()
    (program.folder / "elsewhere" / "captions.csv").write_text(table)
    (program.folder / "some.txt").write_text("red.png\nblue.png\n")
    options = ("--images", "images", "--split", "some.txt", "--json")

    outcome = program("evaluate", "bundled", "elsewhere/captions.csv", *options)

    assert outcome.code == 0, outcome.err
    assert outcome.json["images"] == 2


def test_data_that_cannot_be_read_is_told(program: Program) -> None:
    outcome = program("evaluate", "bundled", "none.jsonl")

    assert outcome.code == 1
    assert "none.jsonl" in outcome.err
