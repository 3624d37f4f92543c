"""`clip-qdrant train`: from pairs to a checkpoint."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fakes import COLOURS, write_image
from program import Outcome, Program, program_in
from tiny import tiny_checkpoint

from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant_training import Mixture, Pair, TrainConfig, TrainingJob

pytestmark = pytest.mark.usefixtures("no_charts", "no_graphs")

QUICK = ("--epochs", "1", "--batch-size", "4", "--freeze-encoders", "--device", "cpu", "--set", "threads=1")
LEARN_FROM_ALL = ("--set", "hold_out=0")


def write_pairs(path: Path, colours: Sequence[str] = tuple(COLOURS)) -> None:
    """A line for each colour, and its image in a folder beside the file."""
    rows = []
    for colour in colours:
        write_image(path.parent / "images" / f"{colour}.png", colour, size=(70, 70))
        rows.append(json.dumps({"image": f"images/{colour}.png", "captions": [colour, f"{colour} {colour}"]}))
    path.write_text("\n".join(rows))


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        write_pairs(tmp_path / "pairs.jsonl")
        yield program


@pytest.fixture
def tiny(program: Program) -> str:
    save_checkpoint(tiny_checkpoint(), program.folder / "tiny.pt")
    return "tiny.pt"


def test_train_writes_a_checkpoint_and_tells_each_epoch(program: Program, tiny: str) -> None:
    options = (*QUICK, "--val", "pairs.jsonl", "--epochs", "2")

    outcome = program("train", "pairs.jsonl", "--model", tiny, "--output", "out/mine.pt", *options)

    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["start", "epoch 1/2", "epoch 2/2"]
    assert all("text to image@1" in line for line in lines[:3])
    assert lines[-2] == "settings and log are in runs/mine, a report in report.html"
    assert lines[-1] == "written to out/mine.pt; use it with --model out/mine.pt"
    trained, before = load_checkpoint("out/mine.pt"), load_checkpoint(tiny)
    kept_start = "warning: no epoch was better than the start, which is kept as it is" in outcome.err
    assert (trained.fingerprint() == before.fingerprint()) is kept_start
    assert trained.metrics


def test_without_val_a_part_is_held_out_and_said_to_be(program: Program, tiny: str) -> None:
    outcome = program("train", "pairs.jsonl", "--model", tiny, "--output", "mine.pt", *QUICK)

    assert outcome.code == 0, outcome.err
    assert outcome.err.startswith(
        "warning: no validation pairs are given: 2 of the 8 images are held out to judge each epoch by, and not "
        "learned from (hold_out=0, on a command line --set hold_out=0, learns from all)"
    )
    assert [line.split("  ")[0] for line in outcome.out.splitlines()[:2]] == ["start", "epoch 1/1"]


def test_learning_rates_and_seed_reach_the_training(program: Program, tiny: str) -> None:
    common = ("train", "pairs.jsonl", "--model", tiny, *QUICK, *LEARN_FROM_ALL)
    fingerprints = []
    for number, options in enumerate([("--seed", "1"), ("--seed", "1"), ("--seed", "1", "--head-lr", "0.1")]):
        assert program(*common, "--output", f"{number}.pt", *options).code == 0
        fingerprints.append(load_checkpoint(f"{number}.pt").fingerprint())

    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_wrong_option_of_training_is_told_with_its_value(program: Program, tiny: str) -> None:
    outcome = program("train", "pairs.jsonl", "--model", tiny, "--output", "x.pt", "--epochs", "0")

    assert outcome.code == 2
    assert "epochs is 0" in outcome.err


class _Stop(Exception):
    """Raised where a run would begin."""


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a run starts from; published encoders would be downloaded if it went on."""
    handed: dict[str, object] = {}

    def read_start(start: str | None, config: TrainConfig) -> None:
        handed.update(start=start, config=config)
        raise _Stop

    monkeypatch.setattr(importlib.import_module("clip_qdrant_training.start"), "read_start", read_start)
    return handed


@pytest.mark.parametrize("option", ["--start", "--model"])
def test_a_published_model_may_be_the_start(program: Program, begun: dict[str, object], option: str) -> None:
    learning = ("--lora", "8", "--last-layers", "2", "--wise-ft")

    program("train", "pairs.jsonl", option, "hf:openai/clip", "--output", "x.pt", *learning)

    assert begun == {"start": "hf:openai/clip", "config": TrainConfig(lora=8, last_layers=2, wise_ft=True)}


def test_there_is_one_start(program: Program) -> None:
    for more in (("--model", "mine.pt"), ("--image-encoder", "resnet18")):
        outcome = program("train", "pairs.jsonl", "--start", "hf:openai/clip", *more, "--output", "x.pt")

        assert outcome.code == 2
        assert "give --start hf:openai/clip, or " in outcome.err


@pytest.mark.parametrize("model", ["bundled", "mine.pt", "hf:openai/clip"])
@pytest.mark.parametrize("option", ["--image-encoder", "--text-encoder"])
def test_encoders_to_start_anew_from_win_over_the_setting_of_a_model(
    program: Program, begun: dict[str, object], monkeypatch: pytest.MonkeyPatch, model: str, option: str
) -> None:
    monkeypatch.setenv("CLIP_QDRANT_MODEL", model)

    outcome = program("train", "pairs.jsonl", option, "some", "--output", "x.pt")

    assert "_Stop" in outcome.err
    assert begun["start"] is None
    assert getattr(begun["config"], option[2:].replace("-", "_")) == "some"


def test_a_model_of_the_settings_is_where_training_starts(
    program: Program, begun: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIP_QDRANT_MODEL", "mine.pt")

    program("train", "pairs.jsonl", "--output", "x.pt")

    assert begun["start"] == "mine.pt"
    assert begun["config"] == TrainConfig()


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


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the command hands to a run, which does not take place."""
    taken: dict[str, object] = {}

    def run_training(job: TrainingJob, folder: Path, **options: object) -> None:
        taken.update({**options, **vars(job), "mixture": job.mixture, "folder": folder})
        raise _Stop

    monkeypatch.setattr("clip_qdrant_training.run.run_training", run_training)
    return taken


def parts(handed: dict[str, object]) -> list[tuple[int, float, str]]:
    mixture = handed["mixture"]
    assert isinstance(mixture, Mixture)
    return [(len(part.pairs), part.weight, part.name) for part in mixture.parts]


def test_several_sets_of_pairs_are_mixed_by_their_weights(
    program: Program, tiny: str, handed: dict[str, object]
) -> None:
    write_pairs(program.folder / "more.jsonl", ["red", "blue"])

    outcome = program(
        *("train", "pairs.jsonl", "more.jsonl", "--weight", "1", "--weight", "0.5"),
        *("--model", tiny, "--output", "x.pt", *LEARN_FROM_ALL),
    )

    assert handed, outcome.err
    assert parts(handed) == [(8, 1.0, "pairs.jsonl"), (2, 0.5, "more.jsonl")]
    assert handed["trained_on"] == "pairs.jsonl, more.jsonl"
    assert getattr(handed["config"], "weights") == (1.0, 0.5)  # noqa: B009


def test_a_weight_must_be_given_for_each_set_of_pairs(program: Program, tiny: str) -> None:
    outcome = program("train", "pairs.jsonl", "pairs.jsonl", "--weight", "2", "--model", tiny, "--output", "x.pt")

    assert outcome.code == 2
    assert outcome.err == "error: weights is (2.0,) for 2 sets of pairs: give one for each\n"


@pytest.mark.parametrize("val", [[], ["--val", "split.csv"]])
def test_the_parts_of_one_file_train_and_judge(
    program: Program, tiny: str, handed: dict[str, object], val: list[str]
) -> None:
    rows = [f"{colour}.png,{colour},{'val' if colour in ('red', 'blue') else 'train'}" for colour in COLOURS]
    (program.folder / "split.csv").write_text("\n".join(["image,caption,split", *rows]))

    program(
        *("train", "split.csv", "--split", "train", *val, "--val-split", "val", "--images", "images"),
        *("--model", tiny, "--output", "x.pt"),
    )

    assert parts(handed) == [(6, 1.0, "split.csv")]
    validation = handed["validation"]
    assert isinstance(validation, list)
    assert [pair.captions for pair in validation] == [("red",), ("blue",)]
    assert isinstance(validation[0], Pair)
    assert handed["notes"] == [
        f"data: {program.folder / 'split.csv'}, split train",
        f"val: {program.folder / 'split.csv'}, split val",
        "model: tiny.pt",
    ]


def test_a_part_to_judge_by_of_several_sets_is_of_none(program: Program, tiny: str) -> None:
    outcome = program("train", "a.jsonl", "b.jsonl", "--val-split", "val", "--model", tiny, "--output", "x.pt")

    assert outcome.code == 2
    assert "--val-split is 'val' for 2 sets of pairs" in outcome.err


# --- options ---------------------------------------------------------------------------------------------------------


def test_a_recipe_is_changed_by_set_and_both_by_the_shortcuts(
    program: Program, tiny: str, handed: dict[str, object]
) -> None:
    (program.folder / "mine.toml").write_text('epochs = 7\nbatch_size = 5\nhead_lr = 0.1\ndevice = "cpu"\n')

    program(
        *("train", "pairs.jsonl", "--recipe", "mine.toml", "--set", "batch_size=6", "--set", "head_lr=0.2"),
        *("--head-lr", "0.3", "--model", tiny, "--output", "x.pt"),
    )

    expected = TrainConfig(epochs=7, batch_size=6, head_lr=0.3, device="cpu")
    assert handed["config"] == expected.settle(published=False, biased=False)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "epoch=3"], "unknown option 'epoch': did you mean epochs"),
        (["--set", "epochs"], "'epochs' is not a change: write key=value, as in epochs=3"),
        (["--set", "cache=ram"], "cache is 'ram'"),
        (["--recipe", "nowhere"], "there is no recipe 'nowhere'"),
        (["--check", "--find-lr"], "give --check or --find-lr, not both"),
    ],
)
def test_wrong_options_end_with_2_and_are_named(program: Program, tiny: str, options: list[str], told: str) -> None:
    outcome = program("train", "pairs.jsonl", "--model", tiny, "--output", "x.pt", *options)

    assert outcome.code == 2
    assert told in outcome.err
    assert not (program.folder / "runs").exists()


def test_without_an_output_there_is_nothing_to_train_for(program: Program, tiny: str) -> None:
    outcome = program("train", "pairs.jsonl", "--model", tiny)

    assert outcome.code == 2
    assert outcome.err == "error: --output is missing: name the checkpoint to write, as in --output mine.pt\n"


# --- the run ---------------------------------------------------------------------------------------------------------


def test_with_json_there_is_one_document_and_epochs_go_to_stderr(program: Program, tiny: str) -> None:
    outcome = program(
        "train", "pairs.jsonl", "--model", tiny, "--output", "x.pt", "--json", "--run", "here", *QUICK, *LEARN_FROM_ALL
    )

    assert set(outcome.json) == {"output", "run", "fingerprint", "metrics", "seconds"}
    assert outcome.json["run"] == "here"
    assert outcome.json["fingerprint"] == load_checkpoint("x.pt").fingerprint()
    assert outcome.err.startswith("epoch 1/1  loss ")
    assert (program.folder / "here" / "log.jsonl").exists()


def test_a_second_run_into_the_same_folder_is_refused_and_can_be_resumed(program: Program, tiny: str) -> None:
    command = ("train", "pairs.jsonl", "--model", tiny, "--output", "x.pt", *QUICK, *LEARN_FROM_ALL)
    assert program(*command).code == 0

    refused, resumed = program(*command), program(*command, "--resume")

    assert refused.code == 2
    assert refused.err.startswith("error: runs/x holds a run: go on with it (--resume,")
    assert resumed.code == 0
    assert resumed.out.splitlines()[-1].startswith("written to x.pt")


@pytest.mark.parametrize("saved", [True, False])
def test_an_interrupt_says_how_to_go_on(
    program: Program, tiny: str, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    def interrupted(job: object, folder: Path, **options: object) -> None:
        folder.mkdir(parents=True)
        if saved:
            (folder / "last.state").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr("clip_qdrant_training.run.run_training", interrupted)

    outcome = program("train", "pairs.jsonl", "--model", tiny, "--output", "x.pt", *LEARN_FROM_ALL)

    assert outcome.code == 130
    told = (
        "runs/x has the run up to its last save: the same command with --resume goes on from there"
        if saved
        else "nothing is saved before the end of the first epoch; --set save_every=100 saves every 100 steps"
    )
    assert outcome.err.splitlines() == [told, "interrupted"]


def test_tensorboard_gets_the_run_in_its_folder(program: Program, tiny: str) -> None:
    outcome = program("train", "pairs.jsonl", "--model", tiny, "--output", "x.pt", "--tensorboard", *QUICK)

    assert outcome.code == 0, outcome.err
    assert list((program.folder / "runs" / "x" / "tensorboard").glob("events.*"))


def test_weights_and_biases_gets_the_run_under_its_name(program: Program, tiny: str, handed: dict[str, object]) -> None:
    from clip_qdrant_training.output.watchers.live_table import LiveTable
    from clip_qdrant_training.output.watchers.weights_and_biases import WeightsAndBiases

    program("train", "pairs.jsonl", "--model", tiny, "--output", "x.pt", "--wandb", "birds", "--run", "runs/second")

    watchers = handed["watchers"]
    assert isinstance(watchers, list)
    assert [type(watcher) for watcher in watchers] == [LiveTable, WeightsAndBiases]
    assert (watchers[1]._project, watchers[1]._name) == ("birds", "second")


# --- looking at the data ---------------------------------------------------------------------------------------------


def test_check_tells_that_nothing_is_wrong(program: Program, tiny: str) -> None:
    outcome = program("train", "pairs.jsonl", "--check", "--model", tiny)

    assert outcome.code == 0, outcome.err
    assert "8 pairs to train on" in outcome.out
    assert outcome.out.splitlines()[-1] == "nothing is wrong with them"
    assert not (program.folder / "runs").exists()


def check_damaged(program: Program, *options: str) -> Outcome:
    (program.folder / "images" / "red.png").write_bytes(b"not an image")
    (program.folder / "images" / "blue.png").unlink()
    write_pairs(program.folder / "dev.jsonl", ["green"])
    long = {"image": "images/green.png", "captions": ["a cat " * 30]}
    rows = (program.folder / "pairs.jsonl").read_text()
    (program.folder / "pairs.jsonl").write_text(f"{rows}\n{json.dumps(long)}")
    return program("train", "pairs.jsonl", "--val", "dev.jsonl", "--check", *options)


def test_check_lists_problems_and_ends_with_1_where_a_run_would_stop(program: Program, tiny: str) -> None:
    outcome = check_damaged(program, "--model", tiny)

    assert outcome.code == 1
    assert "9 pairs to train on and 1 to judge by" in outcome.out
    assert "not an image" in outcome.out
    assert "tokens, of which the model sees 24" in outcome.out
    assert outcome.out.splitlines()[-1] == "a run would stop at what is missing, unreadable or without a caption"


def test_check_as_json_has_counts_and_problems(program: Program, tiny: str) -> None:
    outcome = check_damaged(program, "--model", tiny, "--json")

    assert outcome.code == 1
    assert outcome.json["ok"] is False
    counts = outcome.json["counts"]
    assert (counts["missing"], counts["unreadable"], counts["leak"], counts["long caption"]) == (1, 1, 1, 1)
    assert {row["kind"] for row in outcome.json["problems"]} == set(counts)


def test_check_needs_no_model_where_training_starts_anew(program: Program) -> None:
    outcome = program("train", "pairs.jsonl", "--check", "--image-encoder", "resnet50")

    assert outcome.code == 0, outcome.err


# --- learning rates --------------------------------------------------------------------------------------------------


def test_find_lr_suggests_rates_and_writes_nothing(program: Program, tiny: str) -> None:
    outcome = program("train", "pairs.jsonl", "--find-lr", "--model", tiny, *QUICK)

    assert outcome.code == 0, outcome.err
    assert "loss by learning rate" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("suggestion: ")
    assert "--set head_lr=" in outcome.out
    assert "text_lr" not in outcome.out  # nothing of a frozen encoder learns
    assert not (program.folder / "runs").exists()


# --- several processes -----------------------------------------------------------------------------------------------


def test_the_module_is_the_same_command(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["torchrun", "nowhere.jsonl", "--output", "x.pt"])

    with pytest.raises(SystemExit) as ended:
        runpy.run_module("clip_qdrant_training", run_name="__main__")

    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: cannot read the pairs in nowhere.jsonl")


def test_other_processes_than_the_first_print_nothing(
    program: Program, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    ran = []

    def run_training(job: TrainingJob, folder: Path, **options: object) -> None:
        ran.append(options["watchers"])

    monkeypatch.setattr("clip_qdrant_training.run.run_training", run_training)

    trained = program("train", "pairs.jsonl", "--model", tiny, "--output", "x.pt")
    checked = program("train", "pairs.jsonl", "--model", tiny, "--check")

    assert ran == [[]]
    assert (trained.code, trained.out, trained.err) == (0, "", "")
    assert (checked.code, checked.out, checked.err) == (0, "", "")
