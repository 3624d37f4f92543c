"""A run that is killed at any moment goes on to the very weights that it would have reached undisturbed."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import FORKS
from tiny import pictures, tiny_checkpoint

from clip_qdrant.errors import TrainingError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant_training import EpochReport, Pair, RunStart, StepReport, TrainConfig, TrainingJob, train
from clip_qdrant_training.data.read import Mixture, Part
from clip_qdrant_training.loop.state import write_state
from clip_qdrant_training.run import run_training

PAIRS = 12
QUICK = {"epochs": 3, "batch_size": 4, "device": "cpu", "threads": 1, "precision": "float32"}
HEADS = TrainConfig(freeze_encoders=True, views=1, **QUICK)
CONFIGS = {
    "end to end": TrainConfig(dropout=0.3, ema=0.9, save_every=1, **QUICK),
    "frozen stages": TrainConfig(frozen_stages=2, views=2, distill=0.5, save_every=2, early_stopping=9, **QUICK),
    "heads in chunks": TrainConfig(
        freeze_encoders=True, chunk_size=3, loss="sigmoid", captions_per_image=2, dropout=0.2, save_every=2, **QUICK
    ),
}
ON_DISK = {"frozen stages on disk": replace(CONFIGS["frozen stages"], cache="disk")}


class Watching:
    """A watcher that keeps what it is told, and calls a function after each step."""

    def __init__(self, after_step: Callable[[int], None] = lambda _: None, started: Callable[[], None] = int) -> None:
        self.after_step, self.at_start = after_step, started
        self.steps: list[StepReport] = []
        self.epochs: list[EpochReport] = []

    def started(self, run: RunStart) -> None:
        self.at_start()

    def stepped(self, report: StepReport) -> None:
        self.steps.append(report)
        self.after_step(len(self.steps))

    def epoch_ended(self, report: EpochReport) -> None:
        self.epochs.append(report)

    def ended(self) -> None:
        pass


def make_pairs(folder: Path) -> list[Pair]:
    """Twelve pictures with two captions each, some of which say a side; beside them texts to be no worse on."""
    folder.mkdir(exist_ok=True)
    (folder / "anchors.txt").write_text("a dog on grass\na red cat\ntwo squares\na photo of a circle\n")
    pairs = []
    words = ("dog", "cat", "red", "square", "circle", "grass")
    for number, picture in enumerate(pictures(PAIRS, seed=3)):
        path = folder / f"{number}.png"
        if not path.exists():
            picture.save(path)
        word, side = words[number % 6], ("on the left", "on the right", "two")[number % 3]
        pairs.append(Pair(path, (f"a {word} {side}", f"photo of the {word} {words[number // 6]}")))
    return pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    return make_pairs(tmp_path_factory.mktemp("pairs") / "images")


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture
def begun(tmp_path: Path, pairs: list[Pair], tiny: Checkpoint) -> Path:
    """The folder of a run of HEADS that was interrupted in the middle of its second epoch."""
    with pytest.raises(KeyboardInterrupt):
        train(
            TrainingJob(tiny, pairs, validation=pairs[:4], config=replace(HEADS, save_every=1)),
            run=tmp_path / "run",
            watcher=Watching(interrupt_after(6)),
        )
    return tmp_path / "run"


def interrupt_after(step: int) -> Callable[[int], None]:
    def interrupt(number: int) -> None:
        if number == step:
            raise KeyboardInterrupt

    return interrupt


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, tensors in containers too."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder: Path, name: str, kind: str, amount: float) -> None:
    """In a process of its own: resume the run in `folder`, and die as `kind` and `amount` say."""

    def later() -> None:
        time.sleep(amount)
        kill_self()

    def cut_and_die(file: int) -> None:
        """In place of an fsync: of what was written, half reaches the disk."""
        nonlocal writes
        writes += 1
        if kind == "writing" and writes == amount:
            os.ftruncate(file, os.fstat(file).st_size // 2)
            kill_self()

    def after_step(number: int) -> None:
        if kind == "step" and number == amount:
            kill_self()

    writes = 0
    os.fsync = cut_and_die
    config = {**CONFIGS, **ON_DISK}[name]
    if config.distill:
        config = replace(config, anchors=str(folder.parent / "images" / "anchors.txt"), anchors_per_step=3)
    pairs = make_pairs(folder.parent / "images")
    clock = threading.Thread(target=later, daemon=True)
    outcome = train(
        TrainingJob(tiny_checkpoint(), pairs, validation=pairs[:4], config=config, output=folder / "out.pt"),
        run=folder,
        resume=True,
        watcher=Watching(after_step, clock.start if kind == "clock" else int),
    )
    rows = [torch.from_numpy(each) for each in (outcome.images, outcome.texts) if each is not None]
    torch.save([outcome.checkpoint.fingerprint(), dict(outcome.checkpoint.metrics), rows], folder / "outcome")


def attempt_in_process(folder: Path, name: str, kind: str = "", amount: float = 0) -> tuple[int, float]:
    """The exit code of one attempt, and how long it took."""
    began = time.monotonic()
    process = FORKS.Process(target=attempt, args=(folder, name, kind, amount))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_that_is_killed_again_and_again_reaches_the_same_weights(tmp_path: Path, name: str) -> None:
    make_pairs(tmp_path / "images")
    for folder in ("undisturbed", "killed"):
        (tmp_path / folder).mkdir()
    code, seconds = attempt_in_process(tmp_path / "undisturbed", name)
    assert code == 0
    rng, killed = random.Random(name), tmp_path / "killed"
    kills = [("writing", rng.randint(1, 5)), ("step", rng.randint(1, 3))]
    for kill in kills:
        assert attempt_in_process(killed, name, *kill)[0] == -signal.SIGKILL
    attempt_in_process(killed, name, "clock", rng.uniform(0, seconds / 2))
    assert attempt_in_process(killed, name)[0] == 0
    for file in ("outcome", "last.state"):
        expected, got = (torch.load(tmp_path / run / file, weights_only=True) for run in ("undisturbed", "killed"))
        assert same(expected, got), file
    for file in ("out.pt", "best.pt"):
        expected, got = (load_checkpoint(tmp_path / run / file).fingerprint() for run in ("undisturbed", "killed"))
        assert expected == got
    assert sorted(path.name for path in killed.iterdir() if path.is_file()) == [
        "best.pt",
        "last.state",
        "out.pt",
        "outcome",
    ]


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_writes_keeps_the_state_before(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    (tmp_path / "run").mkdir()
    code, _ = attempt_in_process(tmp_path / "run", "end to end", "writing", 4)  # the start is written first, twice
    assert code == -signal.SIGKILL
    state = torch.load(tmp_path / "run" / "last.state", weights_only=True)
    assert state["done"] == 1
    assert len(list((tmp_path / "run").glob(".last.state.*"))) == 1


# --- going on --------------------------------------------------------------------------------------------------------


def test_a_resumed_run_tells_the_same_of_its_epochs(begun: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    undisturbed, resumed = Watching(), Watching()
    train(TrainingJob(tiny, pairs, validation=pairs[:4], config=HEADS), watcher=undisturbed)
    train(TrainingJob(tiny, pairs, validation=pairs[:4], config=HEADS), run=begun, resume=True, watcher=resumed)
    assert [step.step for step in resumed.steps] == [6, 7, 8, 9]  # the last step was interrupted before it was saved
    assert [step.loss for step in resumed.steps] == [step.loss for step in undisturbed.steps[5:]]
    assert [(epoch.epoch, epoch.loss) for epoch in resumed.epochs] == [
        (epoch.epoch, pytest.approx(epoch.loss))
        for epoch in undisturbed.epochs[2:]  # the start, and the first
    ]


def test_what_a_caller_draws_at_random_changes_nothing(pairs: list[Pair], tiny: Checkpoint) -> None:
    config = replace(HEADS, dropout=0.4, epochs=2)
    drawing = Watching(lambda _: torch.rand(3))
    runs = [
        train(TrainingJob(tiny, pairs, config=config), watcher=watcher).checkpoint for watcher in (Watching(), drawing)
    ]
    assert drawing.steps
    assert runs[0].fingerprint() == runs[1].fingerprint()


def test_where_a_run_computes_may_change(begun: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    expected = train(TrainingJob(tiny, pairs, validation=pairs[:4], config=HEADS)).checkpoint
    moved = replace(HEADS, cache="disk", cache_gb=1.0, save_every=3, device="cpu:0")
    resumed = train(TrainingJob(tiny, pairs, validation=pairs[:4], config=moved), run=begun, resume=True).checkpoint
    assert resumed.fingerprint() == expected.fingerprint()
    watching = Watching()
    train(
        TrainingJob(tiny, pairs, validation=pairs[:4], config=replace(moved, threads=2)),
        run=begun,
        resume=True,
        watcher=watching,
    )
    assert watching.steps == []


def test_a_finished_run_gives_its_best_at_once(tmp_path: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    first = train(TrainingJob(tiny, pairs, validation=pairs[:4], config=HEADS), run=tmp_path)
    watching = Watching()
    again = train(
        TrainingJob(tiny, pairs, validation=pairs[:4], config=HEADS, output=tmp_path / "late.pt"),
        run=tmp_path,
        resume=True,
        watcher=watching,
    )
    assert watching.steps == []
    assert again.checkpoint.fingerprint() == first.checkpoint.fingerprint()
    assert again.checkpoint.metrics == first.checkpoint.metrics
    assert (again.images == first.images).all()
    assert load_checkpoint(tmp_path / "late.pt").fingerprint() == first.checkpoint.fingerprint()


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    config = replace(HEADS, epochs=9, early_stopping=1, head_lr=1e-12)
    watching, again = Watching(), Watching()
    train(TrainingJob(tiny, pairs, validation=pairs[:4], config=config), run=tmp_path, watcher=watching)
    assert [report.epoch for report in watching.epochs] == [0, 1]
    train(TrainingJob(tiny, pairs, validation=pairs[:4], config=config), run=tmp_path, resume=True, watcher=again)
    assert again.steps == []


def test_a_run_without_a_state_begins_anew(tmp_path: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    fresh = train(TrainingJob(tiny, pairs, config=replace(HEADS, epochs=1))).checkpoint
    resumed = train(
        TrainingJob(tiny, pairs, config=replace(HEADS, epochs=1)), run=tmp_path / "new", resume=True
    ).checkpoint
    assert fresh.fingerprint() == resumed.fingerprint()
    assert (tmp_path / "new" / "last.state").is_file()


def test_a_run_may_write_over_the_weights_it_began_with(tmp_path: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    file = tmp_path / "mine.pt"
    save_checkpoint(tiny, file)
    expected = train(TrainingJob(tiny, pairs, config=HEADS)).checkpoint.fingerprint()
    with pytest.raises(KeyboardInterrupt):
        interrupted = Watching(interrupt_after(4))
        train(TrainingJob(load_checkpoint(file), pairs, config=HEADS, output=file), run=tmp_path, watcher=interrupted)
    assert load_checkpoint(file).fingerprint() != tiny.fingerprint()
    resumed = train(
        TrainingJob(load_checkpoint(file), pairs, config=HEADS, output=file), run=tmp_path, resume=True
    ).checkpoint
    assert resumed.fingerprint() == expected


def test_what_killed_writes_left_is_removed_when_a_run_starts(
    tmp_path: Path, pairs: list[Pair], tiny: Checkpoint
) -> None:
    for name in (".last.state.ab12_x9z", ".best.pt.00000000", ".last.state.notes", "best.pt.12345678"):
        (tmp_path / name).write_bytes(b"half")
    train(TrainingJob(tiny, pairs, config=replace(HEADS, epochs=1)), run=tmp_path)
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {".last.state.notes", "best.pt.12345678", "best.pt", "last.state"}


@pytest.mark.slow
def test_a_killed_run_leaves_no_files_of_its_cache(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    (tmp_path / "run").mkdir()
    code, _ = attempt_in_process(tmp_path / "run", "frozen stages on disk", "step", 2)
    assert code == -signal.SIGKILL
    assert (tmp_path / "run" / "cache").is_dir()
    assert list((tmp_path / "run" / "cache").iterdir()) == []


def test_a_run_that_cannot_resume_keeps_its_config(tmp_path: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    def run(config: TrainConfig, *, resume: bool) -> None:
        run_training(TrainingJob(tiny, Mixture([Part(pairs)]), config=config), tmp_path / "run", resume=resume)

    run(replace(HEADS, epochs=1), resume=False)
    written = (tmp_path / "run" / "config.toml").read_text()
    with pytest.raises(TrainingError, match="epochs=1, not 2"):
        run(replace(HEADS, epochs=2), resume=True)
    assert (tmp_path / "run" / "config.toml").read_text() == written


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"head_lr": 0.5}, r"head_lr=0\.001, not 0\.5; give the same, or another run folder"),
        ({"seed": 7}, "seed=0, not 7"),
        ({"epochs": 4}, "epochs=3, not 4"),
        ({"dropout": 0.5}, r"dropout=None, not 0\.5"),
        ({"freeze": ("text_encoder.*",)}, r"freeze=\[\], not \['text_encoder\.\*'\]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_another_config_is_refused_by_key(
    begun: Path, pairs: list[Pair], tiny: Checkpoint, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(
        TrainingError, match=f"cannot resume: the run in {re.escape(str(begun))} began with {complaint}"
    ):
        train(TrainingJob(tiny, pairs, validation=pairs[:4], config=replace(HEADS, **changes)), run=begun, resume=True)


def test_other_data_is_refused(begun: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    def resume(pairs: Any, validation: list[Pair] | None, start: Checkpoint = tiny) -> None:
        train(TrainingJob(start, pairs, validation=validation, config=HEADS), run=begun, resume=True)

    judged = pairs[:4]
    recaptioned = [replace(pairs[0], captions=("a dog",)), *pairs[1:]]
    other_image = [replace(pairs[0], image=pairs[1].image), *pairs[1:]]
    weighted = Mixture([Part(pairs[:6], weight=1.0), Part(pairs[6:], weight=2.0)])
    for changed in (recaptioned, other_image, pairs[::-1], pairs[1:], weighted):
        with pytest.raises(TrainingError, match="began with another set of pairs; give the same"):
            resume(changed, judged)
    for changed in (None, pairs[:3], pairs[4:8]):
        with pytest.raises(TrainingError, match="began with another set of validation pairs"):
            resume(pairs, changed)
    with pytest.raises(TrainingError, match="began with another network to start from"):
        resume(pairs, judged, tiny_checkpoint(hidden=24))


def test_moved_images_are_the_same_data(begun: Path, tiny: Checkpoint, tmp_path: Path) -> None:
    moved = make_pairs(tmp_path / "elsewhere")
    watching = Watching()
    train(TrainingJob(tiny, moved, validation=moved[:4], config=HEADS), run=begun, resume=True, watcher=watching)
    assert watching.steps[0].step == 6


def test_another_teacher_is_refused(tmp_path: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    config = replace(HEADS, distill=1.0, epochs=1)
    train(TrainingJob(tiny, pairs, config=config, teacher=tiny_checkpoint(5)), run=tmp_path)
    train(TrainingJob(tiny, pairs, config=config, teacher=tiny_checkpoint(5)), run=tmp_path, resume=True)
    with pytest.raises(TrainingError, match="began with another teacher"):
        train(TrainingJob(tiny, pairs, config=config, teacher=tiny_checkpoint(6)), run=tmp_path, resume=True)


def test_a_damaged_state_is_told(begun: Path, pairs: list[Pair], tiny: Checkpoint) -> None:
    state = begun / "last.state"
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # in the middle lie weights, which torch.load reads as they are
    for damaged in (whole[: len(whole) // 2], bytes(flipped), b"", b"no state"):
        state.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"cannot resume: .*last\.state is damaged .* begin anew"):
            train(TrainingJob(tiny, pairs, validation=pairs[:4], config=HEADS), run=begun, resume=True)
    save_checkpoint(tiny, state)
    with pytest.raises(TrainingError, match="is not the state of a run that this version can go on with"):
        train(TrainingJob(tiny, pairs, validation=pairs[:4], config=HEADS), run=begun, resume=True)


# --- a full disk -----------------------------------------------------------------------------------------------------


def run_on_a_full_disk(folder: Path, answer: Connection) -> None:
    """In a process of its own: a run for which the disk is full from its second step on."""

    def fill(step: int) -> None:
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))

    pairs = make_pairs(folder.parent / "images")
    try:
        train(TrainingJob(tiny_checkpoint(), pairs, config=CONFIGS["end to end"]), run=folder, watcher=Watching(fill))
    except TrainingError as error:
        answer.send(str(error))
    answer.close()


@pytest.mark.slow
def test_a_full_disk_stops_the_run_with_its_state_intact(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    here, there = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=run_on_a_full_disk, args=(tmp_path / "run", there))
    process.start()
    there.close()
    message = here.recv()
    process.join(60)
    assert process.exitcode == 0
    assert re.search(r"cannot write the state of the run to .*last\.state: ", message)
    assert message.endswith("the state before it is still there: free some space and go on with --resume")
    assert torch.load(tmp_path / "run" / "last.state", weights_only=True)["done"] == 1
    assert not list((tmp_path / "run").glob(".last.state.*"))


def test_a_state_that_cannot_be_written_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write the state of the run to .*file/run/last\.state: "):
        write_state(tmp_path / "file" / "run" / "last.state", {"done": 1})
