"""Several processes train as one does: the same gradients, the same weights, and none waits for one that failed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import FORKS, run_fork
from ports import unused_port
from test_training_resume import Watching, make_pairs
from tiny import tiny_checkpoint

from clip_qdrant.errors import ClipQdrantError, ConfigError, TrainingError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant_training import Mixture, Pair, TrainConfig, TrainingJob, train
from clip_qdrant_training.data.read import Part
from clip_qdrant_training.loop.distributed import Processes, join_processes
from clip_qdrant_training.loop.step import Learner

QUICK = {"batch_size": 8, "device": "cpu", "threads": 1, "precision": "float32", "dropout": 0.0}
LOSSES = {
    "info_nce": TrainConfig(clip_norm=0, **QUICK),
    "sigmoid": TrainConfig(clip_norm=0, loss="sigmoid", **QUICK),
    "soft targets": TrainConfig(clip_norm=0, loss="soft_targets", **QUICK),
    "chunks": TrainConfig(clip_norm=0, chunk_size=3, captions_per_image=2, **QUICK),
    "a teacher": TrainConfig(clip_norm=0, distill=2.0, frozen_stages=2, **QUICK),
    "anchors": TrainConfig(clip_norm=0, distill=2.0, freeze_encoders=True, views=1, **QUICK),
}
RUN = TrainConfig(epochs=2, head_lr=1e-3, image_lr=1e-5, text_lr=1e-6, ema=0.8, save_every=1, **QUICK)


def in_two_processes(task: Callable[[Path, int], Any], folder: Path) -> list[Any]:
    """What `task` gives in each of two processes that are told of each other as torchrun does."""
    port, answers, processes = unused_port(), [], []
    for rank in range(2):
        here, there = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=_as_one_of_two, args=(task, folder, rank, port, there))
        process.start()
        there.close()
        answers.append(here)
        processes.append(process)
    try:
        assert all(answer.poll(120) for answer in answers), "a process hangs"
        told = [answer.recv() for answer in answers]
    finally:
        for process in processes:
            process.join(20)
            process.kill()
    return told


def _as_one_of_two(task: Callable[[Path, int], Any], folder: Path, rank: int, port: int, answer: Connection) -> None:
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    answer.send(task(folder, rank))


def pairs_with_copies(folder: Path) -> list[Pair]:
    """Twelve pairs, among them the same image twice and the same captions twice."""
    pairs = make_pairs(folder / "images")
    pairs[9] = replace(pairs[9], image=pairs[0].image)
    pairs[10] = replace(pairs[10], captions=pairs[1].captions)
    return pairs


# --- one step --------------------------------------------------------------------------------------------------------


def losses(folder: Path) -> dict[str, TrainConfig]:
    anchors = str(folder / "images" / "anchors.txt")
    return {**LOSSES, "anchors": replace(LOSSES["anchors"], anchors=anchors, anchors_per_step=3)}


def step_of_each_loss(folder: Path, rank: int) -> dict[str, dict[str, torch.Tensor]]:
    """The loss and the gradients of one batch, by the name of the config."""
    found = {}
    pairs = pairs_with_copies(folder)
    for name, config in losses(folder).items():
        with join_processes("cpu") as (processes, device):
            found[name] = one_step(pairs, config, processes, device)
    return {name: {key: each.numpy() for key, each in step.items()} for name, step in found.items()}


def one_step(pairs: list[Pair], config: TrainConfig, processes: Processes, device: str) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    learner = Learner(
        TrainingJob(tiny_checkpoint(), Mixture([Part(pairs)]), config=config), device=device, processes=processes
    )
    # The copies lie in the shares of different processes.
    batch = learner.samples.prepare(processes.share([0, 1, 2, 3, 9, 10, 5, 6]), 1)
    loss, norm = learner.gradients(batch)
    learner.close()
    named = [*learner.model.named_parameters(), *learner.objective.parameters.items()]
    gradients = {key: p.grad for key, p in named if p.grad is not None}
    return {"loss": torch.tensor(loss), "norm": torch.tensor(norm), **gradients}


@pytest.mark.slow
def test_loss_and_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    first, second = in_two_processes(step_of_each_loss, tmp_path)
    pairs = pairs_with_copies(tmp_path)
    for name, config in losses(tmp_path).items():
        expected = one_step(pairs, config, Processes(), "cpu")
        assert expected.keys() == first[name].keys() == second[name].keys()
        assert len(expected) > 10
        for key, gradient in expected.items():
            assert (first[name][key] == second[name][key]).all(), (name, key)
            got = torch.from_numpy(first[name][key])
            close = 1e-6 * max(1.0, float(gradient.abs().max()))
            torch.testing.assert_close(got, gradient, rtol=1e-4, atol=close, msg=f"{name} {key}")


def test_copies_in_different_processes_are_no_negatives(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    pairs, apart = pairs_with_copies(tmp_path), make_pairs(tmp_path / "images")
    config = LOSSES["info_nce"]
    [with_copies, without] = [one_step(each, config, Processes(), "cpu")["loss"] for each in (pairs, apart)]
    assert float((with_copies - without).abs()) > 1e-3  # so the test above would see a copy that is not known as one


# --- a run -----------------------------------------------------------------------------------------------------------


def without_dropout() -> Checkpoint:
    """Each process drops units of its own, so only without dropout can two be as one."""
    text = tiny_checkpoint().model.config.text
    return tiny_checkpoint(text={**text, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})


def whole_run(folder: Path, rank: int, config: TrainConfig = RUN) -> dict[str, Any]:
    watching, pairs = Watching(), make_pairs(folder / "images")
    outcome = train(
        TrainingJob(without_dropout(), pairs, validation=pairs[:4], config=config, output=folder / f"output-{rank}.pt"),
        run=folder / f"run-{rank}",
        watcher=watching,
    )
    return {
        "weights": {name: each.numpy() for name, each in outcome.checkpoint.model.state_dict().items()},
        "metrics": dict(outcome.checkpoint.metrics),
        "fingerprint": outcome.checkpoint.fingerprint(),
        "steps": [report.loss for report in watching.steps],
        "epochs": [report.epoch for report in watching.epochs],
    }


def two_runs(folder: Path, rank: int) -> list[dict[str, Any]]:
    """One run after another in the same processes, the second of which stops early."""
    still = TrainConfig(epochs=9, early_stopping=1, freeze_encoders=True, head_lr=1e-12, views=1, **QUICK)
    return [whole_run(folder, rank), whole_run(folder, rank, still)]


@pytest.mark.slow
def test_a_run_gives_the_weights_of_one_process_and_only_the_main_one_writes(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    (first, stopped), (second, stopped_too) = in_two_processes(two_runs, tmp_path)
    alone = whole_run(tmp_path, 7)
    for name, weights in alone["weights"].items():
        torch.testing.assert_close(
            torch.from_numpy(first["weights"][name]), torch.from_numpy(weights), rtol=1e-4, atol=1e-5, msg=name
        )
    assert first["metrics"] == alone["metrics"]
    assert first["steps"] == pytest.approx(alone["steps"], abs=1e-5)
    assert first["fingerprint"] == second["fingerprint"]
    assert stopped["epochs"] == [0, 1]
    assert stopped["fingerprint"] == stopped_too["fingerprint"]
    assert second["steps"] == second["epochs"] == stopped_too["steps"] == []
    assert load_checkpoint(tmp_path / "output-0.pt").fingerprint() == stopped["fingerprint"]
    assert not (tmp_path / "output-1.pt").exists()
    assert not list((tmp_path / "run-1").glob("*.*"))


def interrupted_then_resumed(folder: Path, rank: int) -> list[Any]:
    """A run in which both processes stop after their third step, what it then reaches, and what it would have."""
    pairs, config = make_pairs(folder / "images"), replace(RUN, batch_size=4, dropout=0.3)

    def run(name: str, *, resume: bool = False, watching: Watching | None = None) -> str:
        outcome = train(
            TrainingJob(tiny_checkpoint(), pairs, config=config), run=folder / name, resume=resume, watcher=watching
        )
        return outcome.checkpoint.fingerprint()

    def stop(step: int) -> None:
        if step == 4:
            raise KeyboardInterrupt

    undisturbed = run("whole")
    try:
        run("parted", watching=Watching(stop))
        ended = "not at all"
    except (KeyboardInterrupt, TrainingError) as error:
        ended = type(error).__name__
    watching = Watching()
    return [undisturbed, ended, run("parted", resume=True, watching=watching), len(watching.steps)]


@pytest.mark.slow
def test_a_run_of_two_processes_resumes_to_the_same_weights_with_dropout(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    first, second = in_two_processes(interrupted_then_resumed, tmp_path)
    assert first[1] == "KeyboardInterrupt"
    assert second[1] == "TrainingError"
    assert first[0] == first[2] == second[0] == second[2]
    assert first[3] == 3  # of six: three are behind it, the fourth was not saved


# --- failures --------------------------------------------------------------------------------------------------------


def failing_runs(folder: Path, rank: int) -> list[str]:
    """What ends a run whose one image cannot be read, and one whose loss is no number."""
    pairs = make_pairs(folder / "images")
    told = []
    for start, used in ((tiny_checkpoint(), [*pairs[:7], Pair(folder / "broken.png", ("a dog",))]), (nan(), pairs)):
        try:
            train(TrainingJob(start, used, config=replace(RUN, epochs=1)), run=folder / "run")
        except ClipQdrantError as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


def nan() -> Checkpoint:
    start = tiny_checkpoint()
    with torch.no_grad():
        start.model.image_projection.fc.bias.fill_(float("nan"))
    return start


@pytest.mark.slow
def test_a_failure_in_one_process_ends_all_of_them(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    (tmp_path / "broken.png").write_text("no image")
    told = in_two_processes(failing_runs, tmp_path)
    images = sorted(each[0] for each in told)
    assert images[0].startswith("NotAnImage: ")
    assert "broken.png" in images[0]
    assert images[1].startswith("TrainingError: another process of this run has stopped, and its own message says why")
    assert all(each[1].startswith("TrainingError: the loss is nan in step 0 of epoch 1") for each in told)
    assert (tmp_path / "run" / "nan-batch.json").is_file()


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two' in the environment: start the processes of a run by torchrun"),
        ({"WORLD_SIZE": "2"}, "RANK is not set in the environment"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "the 2 processes of this run did not meet: .*MASTER_ADDR"),
    ],
)
def test_half_an_environment_of_processes_is_told(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], complaint: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=complaint), join_processes("cpu"):
        pass


def test_statistics_of_batches_are_refused_in_several_processes() -> None:
    config = TrainConfig(batch_norm="train", **QUICK)
    pairs = Mixture([Part([Pair(f"{number}.png", ("a dog",)) for number in range(8)])])
    with pytest.raises(ConfigError, match="batch_norm is 'train' with several processes"):
        Learner(TrainingJob(tiny_checkpoint(), pairs, config=config), processes=Processes(0, 2))


SCRIPT = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(os.pathsep)
from tiny import tiny_checkpoint
from test_training_processes import RUN, Pair, TrainingJob, make_pairs, train
folder = Path(sys.argv[2])
pairs = make_pairs(folder / "images")
for number in range(2):
    reached = train(TrainingJob(tiny_checkpoint(), pairs, config=RUN)).checkpoint.fingerprint()
    (folder / f"reached-{number}-{os.environ['RANK']}").write_text(reached)
train(TrainingJob(tiny_checkpoint(), [*pairs[:7], Pair(folder / "broken.png", ("a dog",))], config=RUN))
"""


@pytest.mark.slow
def test_torchrun_starts_runs_and_ends_all_processes_when_one_fails(tmp_path: Path) -> None:
    make_pairs(tmp_path / "images")
    (tmp_path / "broken.png").write_text("no image")
    (tmp_path / "script.py").write_text(SCRIPT)
    places = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1] / "support")))
    torchrun = "import sys; from torch.distributed.run import main; main(sys.argv[1:])"
    options = ("--nproc-per-node=2", f"--master-port={unused_port()}")
    code, _, errors = run_fork(torchrun, *options, "script.py", places, tmp_path, cwd=tmp_path)
    reached = [path.read_text() for path in tmp_path.glob("reached-*")]
    assert len(reached) == 4, errors
    assert len(set(reached)) == 1
    assert code != 0
    assert "broken.png" in errors
