"""The folder of a run: what is in it, when it is refused, and that a run in it goes on."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tiny import coloured_pairs, tiny_checkpoint

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant_training import EpochReport, Mixture, Pair, RunStart, StepReport, TrainConfig, TrainingJob, fit
from clip_qdrant_training.data.read import Part
from clip_qdrant_training.run import run_training

CONFIG = TrainConfig(batch_size=4, epochs=2, freeze_encoders=True, device="cpu", threads=1)


@pytest.fixture(scope="module")
def start() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    return coloured_pairs(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def finished(start: Checkpoint, pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is done."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    run_training(
        TrainingJob(
            start,
            Mixture([Part(pairs[:6], name="some.jsonl"), Part(pairs[6:], 2.0, "more.jsonl")]),
            config=CONFIG,
            validation=pairs[::2],
        ),
        folder,
        notes=["data: /there/some\n.jsonl\x07"],
    )
    return folder


class Steps:
    """A watcher that counts steps, and stops the run after some."""

    def __init__(self, most: int = 1000) -> None:
        self.steps: list[int] = []
        self._most = most

    def started(self, run: RunStart) -> None:
        pass

    def stepped(self, report: StepReport) -> None:
        self.steps.append(report.step)
        if len(self.steps) == self._most:
            raise KeyboardInterrupt

    def epoch_ended(self, report: EpochReport) -> None:
        pass

    def ended(self) -> None:
        pass


def kinds(folder: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_a_run_leaves_all_that_its_folder_is_said_to_hold(finished: Path) -> None:
    names = {path.name for path in finished.iterdir() if not path.name.startswith(".")}

    assert names >= {"config.toml", "log.jsonl", "curves.png", "samples.png", "last.state", "best.pt", "report.html"}
    assert kinds(finished)[0] == "start"
    assert kinds(finished).count("epoch") == 3  # with the start
    assert kinds(finished)[-1] == "end"


def test_its_config_is_a_recipe_that_gives_the_same_config(finished: Path) -> None:
    assert TrainConfig.load(finished / "config.toml") == CONFIG.settle(published=False, biased=False)


def test_its_config_tells_where_the_pairs_are_from_whatever_their_names_hold(finished: Path) -> None:
    head = (finished / "config.toml").read_text("utf-8").split("\n\n")[0].splitlines()

    assert f"# start: fingerprint {tiny_checkpoint().fingerprint()[:12]}" in head
    assert "# pairs: some.jsonl (6, weight 1)" in head
    assert "# pairs: more.jsonl (2, weight 2)" in head
    assert "# validation: 4 pairs" in head
    assert "# data: /there/some\N{REPLACEMENT CHARACTER}.jsonl\N{REPLACEMENT CHARACTER}" in head


def test_its_samples_are_the_first_batch(finished: Path) -> None:
    with Image.open(finished / "samples.png") as picture:
        width, height = picture.size

    assert width > 2 * 64  # four cells of a batch of four
    assert height > 2 * 64


def test_its_report_has_the_curves_and_the_queries_of_the_validation_pairs(finished: Path) -> None:
    page = (finished / "report.html").read_text("utf-8")

    assert "Training run first" in page
    assert "judged on 4 images and 8 captions" in page
    assert "a red square" in page
    assert "freeze_encoders" in page


def test_a_run_without_validation_pairs_has_no_report(start: Checkpoint, pairs: list[Pair], tmp_path: Path) -> None:
    run_training(TrainingJob(start, Mixture([Part(pairs)]), config=replace(CONFIG, epochs=1)), tmp_path / "run")

    assert (tmp_path / "run" / "best.pt").exists()
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_folder_with_a_run_is_refused_and_left_as_it_is(start: Checkpoint, pairs: list[Pair], finished: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}

    with pytest.raises(ConfigError, match=r"first holds a run: go on with it \(--resume, resume=True\), or give an"):
        run_training(TrainingJob(start, Mixture([Part(pairs)]), config=CONFIG), finished)

    assert {path.name: path.stat().st_mtime_ns for path in finished.iterdir()} == before


@pytest.mark.slow
@pytest.mark.usefixtures("no_charts")
def test_a_run_that_was_stopped_goes_on_and_ends_as_one_that_was_not(
    start: Checkpoint, pairs: list[Pair], finished: Path, tmp_path: Path
) -> None:
    mixture = Mixture([Part(pairs[:6], name="some.jsonl"), Part(pairs[6:], 2.0, "more.jsonl")])
    config, validation = replace(CONFIG, save_every=1), pairs[::2]
    with pytest.raises(KeyboardInterrupt):
        run_training(TrainingJob(start, mixture, config=config, validation=validation), tmp_path, watchers=[Steps(3)])
    samples = (tmp_path / "samples.png").stat().st_mtime_ns
    rest = Steps()

    trained = run_training(
        TrainingJob(start, mixture, config=config, validation=validation), tmp_path, watchers=[rest], resume=True
    )

    assert rest.steps == [3, 4]  # the third was done, and not saved yet
    assert trained.fingerprint() == load_checkpoint(finished / "best.pt").fingerprint()
    assert (tmp_path / "samples.png").stat().st_mtime_ns == samples
    assert kinds(tmp_path).count("step") == 4
    assert (tmp_path / "report.html").exists()


def test_a_finished_run_resumes_to_its_best_without_a_step(
    start: Checkpoint, pairs: list[Pair], finished: Path, tmp_path: Path
) -> None:
    mixture = Mixture([Part(pairs[:6], name="some.jsonl"), Part(pairs[6:], 2.0, "more.jsonl")])
    watched = Steps()

    trained = run_training(
        TrainingJob(start, mixture, config=CONFIG, validation=pairs[::2], output=tmp_path / "again.pt"),
        finished,
        resume=True,
        watchers=[watched],
    )

    assert watched.steps == []
    assert load_checkpoint(tmp_path / "again.pt").fingerprint() == trained.fingerprint()
    assert kinds(finished).count("epoch") == 3  # with the start


def test_without_matplotlib_a_run_goes_without_pictures_and_says_what_draws_them(
    start: Checkpoint,
    pairs: list[Pair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with caplog.at_level(logging.WARNING):
        run_training(TrainingJob(start, Mixture([Part(pairs)]), config=replace(CONFIG, epochs=1)), tmp_path)

    assert (tmp_path / "log.jsonl").exists()
    assert not list(tmp_path.glob("*.png"))
    assert [record.getMessage() for record in caplog.records] == [
        "the run goes without pictures: drawing curves.png and samples.png needs matplotlib: "
        "pip install 'clip-qdrant[train]'"
    ]


def test_a_folder_that_cannot_be_made_is_told_before_training(
    start: Checkpoint, pairs: list[Pair], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(TrainingError, match=r"cannot write .*file/run/config\.toml: Not a directory; give another"):
        run_training(TrainingJob(start, Mixture([Part(pairs)]), config=CONFIG), tmp_path / "file" / "run")


@pytest.mark.usefixtures("no_charts", "no_graphs")
def test_fit_keeps_a_run_in_its_folder_too(start: Checkpoint, pairs: list[Pair], tmp_path: Path) -> None:
    options = {"batch_size": 4, "epochs": 1, "freeze_encoders": True, "device": "cpu", "threads": 1}

    trained = fit(pairs, start=start, run=tmp_path / "run", **options)

    assert (tmp_path / "run" / "config.toml").exists()
    with pytest.raises(ConfigError, match="holds a run"):
        fit(pairs, start=start, run=tmp_path / "run", **options)
    again = fit(pairs, start=start, run=tmp_path / "run", resume=True, **options)
    assert again.fingerprint() == trained.fingerprint()


def test_fit_has_nothing_to_resume_without_a_folder(start: Checkpoint, pairs: list[Pair]) -> None:
    with pytest.raises(ConfigError, match="resume=True needs the run to go on with: run=FOLDER"):
        fit(pairs, start=start, resume=True)
