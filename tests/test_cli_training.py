"""`clip-qdrant train`: from pairs to a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import COLOURS, write_image
from program import Program, program_in
from tiny import tiny_checkpoint

from clip_qdrant.model.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        rows = []
        for colour in COLOURS:
            write_image(tmp_path / "images" / f"{colour}.png", colour)
            rows.append(json.dumps({"image": f"images/{colour}.png", "captions": [colour, f"{colour} {colour}"]}))
        (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
        yield program


@pytest.fixture
def tiny(program: Program) -> str:
    save_checkpoint(tiny_checkpoint(), program.folder / "tiny.pt")
    return "tiny.pt"


def test_train_writes_a_checkpoint_and_tells_each_epoch(program: Program, tiny: str) -> None:
    options = ("--val", "pairs.jsonl", "--epochs", "2", "--batch-size", "4", "--freeze-encoders", "--device", "cpu")

    outcome = program("train", "pairs.jsonl", "--model", tiny, "--output", "out/mine.pt", *options)

    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert [line.split("  ")[0] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]
    assert "text to image@1" in lines[0]
    assert lines[-1] == "written to out/mine.pt; use it with --model out/mine.pt"
    trained, before = load_checkpoint("out/mine.pt"), load_checkpoint(tiny)
    assert trained.fingerprint() != before.fingerprint()
    assert trained.metrics


def test_learning_rates_and_seed_reach_the_training(program: Program, tiny: str) -> None:
    common = ("train", "pairs.jsonl", "--model", tiny, "--epochs", "1", "--freeze-encoders", "--device", "cpu")
    fingerprints = []
    for number, options in enumerate([("--seed", "1"), ("--seed", "1"), ("--seed", "1", "--head-lr", "0.1")]):
        assert program(*common, "--output", f"{number}.pt", *options).code == 0
        fingerprints.append(load_checkpoint(f"{number}.pt").fingerprint())

    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_wrong_option_of_training_is_told_with_its_value(program: Program, tiny: str) -> None:
    outcome = program("train", "pairs.jsonl", "--model", tiny, "--output", "x.pt", "--epochs", "0")

    assert outcome.code == 2
    assert "epochs is 0" in outcome.err


def test_hub_models_are_not_trained(program: Program) -> None:
    outcome = program("train", "pairs.jsonl", "--model", "hf:openai/clip", "--output", "x.pt")

    assert outcome.code == 2
    assert "hf:openai/clip cannot be trained" in outcome.err


class _Stop(Exception):
    """Raised where a run would begin."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a run of `train` hands over; published encoders would be downloaded if it went on."""
    handed: dict[str, object] = {}

    def fit(data: object, **options: object) -> None:
        handed.update(options)
        raise _Stop

    monkeypatch.setattr("clip_qdrant_training.fit", fit)
    return handed


@pytest.mark.parametrize("model", ["bundled", "mine.pt", "hf:openai/clip"])
@pytest.mark.parametrize("option", ["--image-encoder", "--text-encoder"])
def test_encoders_to_start_anew_from_win_over_the_setting_of_a_model(
    program: Program, begun: dict[str, object], monkeypatch: pytest.MonkeyPatch, model: str, option: str
) -> None:
    monkeypatch.setenv("CLIP_QDRANT_MODEL", model)

    outcome = program("train", "pairs.jsonl", option, "some", "--output", "x.pt")

    assert "_Stop" in outcome.err
    assert begun["start"] is None
    assert begun[option[2:].replace("-", "_")] == "some"


def test_a_model_of_the_settings_is_where_training_starts(
    program: Program, begun: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIP_QDRANT_MODEL", "mine.pt")

    program("train", "pairs.jsonl", "--output", "x.pt")

    assert begun["start"] == "mine.pt"
    assert "image_encoder" not in begun


def test_a_model_and_encoders_on_one_command_line_contradict_each_other(
    program: Program, begun: dict[str, object]
) -> None:
    outcome = program("train", "pairs.jsonl", "--model", "mine.pt", "--image-encoder", "resnet50", "--output", "x.pt")

    assert outcome.code == 2
    assert outcome.err == "error: give --model, or the encoders to start anew from, not both\n"
    assert begun == {}


def test_pairs_that_cannot_be_read_are_told_with_their_line(program: Program, tiny: str) -> None:
    (program.folder / "bad.jsonl").write_text('{"image": "images/red.png"}\n')

    outcome = program("train", "bad.jsonl", "--model", tiny, "--output", "x.pt")

    assert outcome.code == 1
    assert "bad.jsonl line 1 needs captions" in outcome.err
