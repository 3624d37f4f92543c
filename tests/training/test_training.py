"""Training learns, keeps its best, is the same for the same seed, and says what is wrong with its data."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import coloured_pairs, pictures, tiny_checkpoint

from clip_qdrant import ClipEmbedder
from clip_qdrant.calibration.curves import measure_calibration
from clip_qdrant.errors import ConfigError, NotAnImage, TrainingError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant_training import (
    EpochReport,
    Mixture,
    Pair,
    RunStart,
    StepReport,
    TrainConfig,
    TrainingJob,
    evaluate,
    fit,
    lr_range_test,
    train,
)
from clip_qdrant_training.data.read import Part

QUICK = {"batch_size": 4, "device": "cpu", "threads": 1}


class Epochs:
    """A watcher that keeps what it is told."""

    def __init__(self, epochs: list[EpochReport] | None = None) -> None:
        self.epochs = [] if epochs is None else epochs
        self.steps: list[StepReport] = []
        self.start: RunStart | None = None

    def started(self, run: RunStart) -> None:
        self.start = run

    def stepped(self, report: StepReport) -> None:
        self.steps.append(report)

    def epoch_ended(self, report: EpochReport) -> None:
        self.epochs.append(report)

    def ended(self) -> None:
        pass


def one_of_each(pairs: list[Pair]) -> list[Pair]:
    return pairs[::2]


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return tiny_checkpoint()


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False], ids=["heads only", "end to end"])
def test_training_learns_to_tell_colours_apart(tmp_path: Path, tiny: Checkpoint, frozen: bool) -> None:
    pairs = coloured_pairs(tmp_path)
    before = evaluate(ClipEmbedder.from_checkpoint(tiny, device="cpu"), one_of_each(pairs))
    reports: list[EpochReport] = []
    config = TrainConfig(epochs=30, freeze_encoders=frozen, head_lr=3e-3, image_lr=1e-3, text_lr=1e-3, **QUICK)
    trained = train(
        TrainingJob(tiny, pairs, validation=one_of_each(pairs), config=config), watcher=Epochs(reports)
    ).checkpoint
    after = evaluate(ClipEmbedder.from_checkpoint(trained, device="cpu"), one_of_each(pairs))
    assert after["text_to_image_recall@1"] == 100 > before["text_to_image_recall@1"]
    assert reports[-1].loss < 0.7 * reports[1].loss
    assert [report.epoch for report in reports] == list(range(31))


def test_frozen_encoders_keep_their_weights_and_heads_do_not(tmp_path: Path, tiny: Checkpoint) -> None:
    start = tiny_checkpoint(image_head="concept", text_head="residual", concepts=9)
    trained = train(
        TrainingJob(start, coloured_pairs(tmp_path), config=TrainConfig(epochs=1, freeze_encoders=True, **QUICK))
    ).checkpoint
    old, new = start.model.state_dict(), trained.model.state_dict()
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"image_projection", "text_projection", "logit_scale"}
    assert torch.equal(old["image_projection.classifier.weight"], new["image_projection.classifier.weight"])


def test_heads_first_then_everything_trains_everything(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    heads = train(TrainingJob(tiny, pairs, config=TrainConfig(epochs=1, freeze_encoders=True, **QUICK))).checkpoint
    everything = train(TrainingJob(heads, pairs, config=TrainConfig(epochs=1, **QUICK))).checkpoint
    old, new = heads.model.state_dict(), everything.model.state_dict()
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert {"image_encoder", "text_encoder", "image_projection", "text_projection"} <= changed
    assert all(parameter.requires_grad and parameter.grad is None for parameter in heads.model.parameters())


def test_a_checkpoint_says_what_it_was_trained_on(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    lines = [json.dumps({"image": pair.image.name, "captions": list(pair.captions)}) for pair in pairs]
    (tmp_path / "colours.jsonl").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")  # as some editors save
    first = fit(tmp_path / "colours.jsonl", start=tiny, epochs=1, hold_out=0.0, **QUICK)
    second = fit(pairs, start=first, epochs=1, hold_out=0.0, **QUICK)
    assert first.trained_on == ("nothing", "colours.jsonl")
    assert second.trained_on == ("nothing", "colours.jsonl", "own pairs")


def test_a_target_that_cannot_be_written_is_told_before_training(tmp_path: Path, tiny: Checkpoint) -> None:
    reports: list[EpochReport] = []
    (tmp_path / "file").write_text("")
    for target, complaint in ((tmp_path, "it is a folder"), (tmp_path / "file" / "out.pt", "cannot write")):
        with pytest.raises(TrainingError, match=complaint):
            fit(coloured_pairs(tmp_path), start=tiny, output=target, on_epoch=reports.append, epochs=1, **QUICK)
    assert reports == []


def test_training_leaves_its_start_and_batch_norm_statistics_alone(tmp_path: Path, tiny: Checkpoint) -> None:
    fingerprint = tiny.fingerprint()
    trained = train(TrainingJob(tiny, coloured_pairs(tmp_path), config=TrainConfig(epochs=1, **QUICK))).checkpoint
    assert tiny.fingerprint() == fingerprint != trained.fingerprint()
    statistics = [name for name in trained.model.state_dict() if name.endswith("running_mean")]
    assert statistics
    assert all(torch.equal(trained.model.state_dict()[name], tiny.model.state_dict()[name]) for name in statistics)


def test_a_run_leaves_threads_and_random_numbers_as_they_were(tmp_path: Path, tiny: Checkpoint) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    job = TrainingJob(tiny, coloured_pairs(tmp_path), config=TrainConfig(epochs=1, **QUICK))
    train(job)
    lr_range_test(job, steps=10)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    runs = [
        train(TrainingJob(tiny, pairs, config=TrainConfig(epochs=2, seed=seed, **QUICK))).checkpoint
        for seed in (3, 3, 4)
    ]
    first, second, other = (run.fingerprint() for run in runs)
    assert first == second != other


def test_the_best_epoch_is_returned_and_written(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    reports: list[EpochReport] = []
    config = TrainConfig(epochs=8, head_lr=0.05, freeze_encoders=True, **QUICK)  # too fast to improve every epoch
    outcome = train(
        TrainingJob(tiny, pairs, validation=pairs, config=config, output=tmp_path / "b.pt"), watcher=Epochs(reports)
    )
    best = outcome.checkpoint
    scores = [sum(report.metrics.values()) for report in reports]
    assert [report.best for report in reports] == [
        score > max(scores[:epoch], default=-1) for epoch, score in enumerate(scores)
    ]
    assert sum(best.metrics.values()) == max(scores)
    assert load_checkpoint(tmp_path / "b.pt").fingerprint() == best.fingerprint()


@pytest.mark.usefixtures("no_graphs")
def test_fit_takes_paths_and_tuples_and_gives_an_embedder(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    lines = [json.dumps({"image": pair.image.name, "captions": list(pair.captions)}) for pair in pairs]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n\n")
    from_path = fit(tmp_path / "train.jsonl", start=tiny, epochs=1, **QUICK)
    tuples = [(pair.image, list(pair.captions)) for pair in pairs]
    assert fit(tuples, start=tiny, epochs=1, **QUICK).fingerprint() == from_path.fingerprint()
    clip = ClipEmbedder.fit(tuples, start=tiny, epochs=1, output=tmp_path / "out.pt", **QUICK)
    assert clip.fingerprint == from_path.fingerprint()
    assert ClipEmbedder.load(tmp_path / "out.pt", runtime="torch", device="cpu").fingerprint == clip.fingerprint


def test_an_unreadable_image_is_named(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    (tmp_path / "red-1.0.png").write_text("no image")
    with pytest.raises(NotAnImage, match=r"red-1\.0\.png"):
        train(TrainingJob(tiny, pairs, config=TrainConfig(epochs=1, **QUICK)))


def test_too_few_pairs_and_bad_options_are_refused(tiny: Checkpoint) -> None:
    pairs = [(picture, "a dog") for picture in pictures(2)]
    with pytest.raises(TrainingError, match="1 pair is not enough"):
        fit(pairs[:1], start=tiny)
    with pytest.raises(TrainingError, match="no pairs"):
        fit([], start=tiny)
    with pytest.raises(ConfigError, match="unknown option 'epoch'"):
        fit(pairs, start=tiny, epoch=3)
    with pytest.raises(ConfigError, match="epochs is 0"):
        fit(pairs, start=tiny, epochs=0)
    for option, value in (("batch_size", 2.5), ("threads", -1), ("seed", "x")):
        with pytest.raises(ConfigError, match=f"{option} is"):
            fit(pairs, start=tiny, **{option: value})
    with pytest.raises(ConfigError, match="warmup is 2"):
        fit(pairs, start=tiny, warmup=2)
    with pytest.raises(TrainingError, match="pair 0 is a int"):
        fit([1, 2], start=tiny)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, tiny: Checkpoint) -> None:
    broken = replace(tiny, model=tiny_checkpoint().model)
    with torch.no_grad():
        broken.model.image_projection.fc.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan in step 0 of epoch 1"):
        train(TrainingJob(broken, coloured_pairs(tmp_path), config=TrainConfig(epochs=1, **QUICK)))


def test_a_loss_that_is_no_number_leaves_a_report_of_its_batch(tmp_path: Path, tiny: Checkpoint) -> None:
    broken = replace(tiny, model=tiny_checkpoint().model)
    with torch.no_grad():
        broken.model.text_projection.fc.bias.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"its batch begins with .*\.png.*all of it is in .*nan-batch\.json"):
        train(
            TrainingJob(broken, coloured_pairs(tmp_path), config=TrainConfig(epochs=1, **QUICK)), run=tmp_path / "run"
        )
    report = json.loads((tmp_path / "run" / "nan-batch.json").read_text())
    assert report["loss"] == "nan"
    assert len(report["images"]) == len(report["captions"]) == 4


@pytest.mark.usefixtures("no_graphs")
def test_the_start_is_judged_first_and_kept_when_no_epoch_beats_it(
    tmp_path: Path, tiny: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = coloured_pairs(tmp_path)
    good = fit(pairs, validation=pairs, start=tiny, epochs=20, head_lr=0.01, freeze_encoders=True, **QUICK)
    seen: list[EpochReport] = []
    kept = fit(
        pairs,
        validation=pairs,
        start=good,
        output=tmp_path / "kept.pt",
        epochs=2,
        head_lr=10.0,
        freeze_encoders=True,
        on_epoch=seen.append,
        **QUICK,
    )
    assert [(report.epoch, report.best) for report in seen] == [(0, True), (1, False), (2, False)]
    assert math.isnan(seen[0].loss)
    assert seen[0].metrics == kept.metrics
    assert sum(seen[1].metrics.values()) < sum(seen[0].metrics.values())
    assert kept.fingerprint() == good.fingerprint() == load_checkpoint(tmp_path / "kept.pt").fingerprint()
    assert kept.trained_on == good.trained_on
    assert caplog.messages[-1].startswith("no epoch was better than the start, which is kept as it is")


def test_without_validation_pairs_some_are_held_out_and_said_to_be(
    tmp_path: Path, tiny: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = coloured_pairs(tmp_path)
    job = TrainingJob(tiny, pairs).with_validation()
    assert job.validation is not None
    assert sorted(map(str, (*job.mixture.pairs, *job.validation))) == sorted(map(str, pairs))
    assert len(job.validation) == len(pairs) // 3
    assert f"{len(pairs) // 3} of the {len(pairs)} images are held out to judge each epoch by" in caplog.text

    caplog.clear()
    for given in (
        TrainingJob(tiny, pairs, config=TrainConfig(hold_out=0.0)),
        TrainingJob(tiny, pairs, validation=pairs[:2]),
        TrainingJob(tiny, pairs[:5]),
    ):
        assert given.with_validation() is given
    assert caplog.text == ""


def test_training_stops_early_when_nothing_improves(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs, watched = coloured_pairs(tmp_path), Epochs()
    config = TrainConfig(
        epochs=9, early_stopping=2, head_lr=1e-12, image_lr=0, text_lr=0, freeze_encoders=True, batch_size=4, threads=1
    )
    train(TrainingJob(tiny, pairs, validation=pairs, config=config), watcher=watched)
    assert [report.best for report in watched.epochs] == [True, False, False]


def test_a_run_tells_what_it_does(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs, watched = coloured_pairs(tmp_path), Epochs()
    train(TrainingJob(tiny, pairs, config=TrainConfig(epochs=2, warmup=0.5, frozen_layers=1, **QUICK)), watcher=watched)
    start = watched.start
    assert start is not None
    assert (start.pairs, start.captions, start.steps, start.epochs) == (8, 16, 4, 2)
    assert 0 < start.trainable < start.parameters
    assert [step.step for step in watched.steps] == [1, 2, 3, 4]
    assert set(watched.steps[0].lr) == {"heads", "image", "text"}
    assert watched.steps[0].lr["heads"] == pytest.approx(0.5e-3)
    assert watched.steps[1].lr["heads"] == pytest.approx(1e-3)
    assert watched.steps[3].lr["heads"] < watched.steps[2].lr["heads"]
    assert all(0 <= step.waited <= 1 and step.grad_norm > 0 for step in watched.steps)


def test_dropout_and_temperature_can_be_changed(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    config = TrainConfig(epochs=1, dropout=0.4, temperature=0.05, head_lr=1e-9, **QUICK)
    trained = train(TrainingJob(tiny, pairs, config=config)).checkpoint
    assert trained.calibration is None  # there was nothing to measure it by
    assert trained.model.config.dropout == 0.4
    assert float(trained.model.logit_scale.detach().exp()) == pytest.approx(20, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sigmoid", "soft_targets"])
def test_every_loss_learns_colours(tmp_path: Path, tiny: Checkpoint, loss: str) -> None:
    pairs = coloured_pairs(tmp_path)
    config = TrainConfig(epochs=60, loss=loss, freeze_encoders=True, head_lr=3e-3, **QUICK)
    outcome = train(TrainingJob(tiny, pairs, validation=one_of_each(pairs), config=config))
    assert outcome.checkpoint.metrics["text_to_image_recall@1"] == 100
    assert outcome.checkpoint.calibration is None  # of eight images nothing is measured


def test_a_trained_model_says_what_its_similarities_are_worth(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    validation = [*one_of_each(pairs)] * 4
    config = TrainConfig(epochs=1, freeze_encoders=True, **QUICK)
    biased = replace(tiny, prompts=Prompts(("a {}",), bias=(0.1,) * tiny.model.dim))
    outcome = train(TrainingJob(biased, pairs, validation=validation, config=config, output=tmp_path / "best.pt"))

    assert outcome.images is not None
    assert outcome.texts is not None
    assert outcome.checkpoint.calibration == measure_calibration(outcome.images, outcome.texts, owners=range(32))
    assert outcome.checkpoint.prompts == Prompts(("a {}",))  # the bias was that of other texts
    assert load_checkpoint(tmp_path / "best.pt").calibration == outcome.checkpoint.calibration


@pytest.mark.slow
@pytest.mark.parametrize("captions", [1, 2])
def test_a_student_comes_close_to_the_similarities_of_its_teacher(
    tmp_path: Path, tiny: Checkpoint, captions: int
) -> None:
    pairs, teacher = coloured_pairs(tmp_path), tiny_checkpoint(seed=5)
    texts = [caption for pair in pairs for caption in pair.captions]

    def similarities(checkpoint: Checkpoint) -> np.ndarray:
        clip = ClipEmbedder.from_checkpoint(checkpoint, device="cpu")
        rows = clip.embed_images([pair.image for pair in pairs]) @ clip.embed_texts(texts).T
        return rows - rows.mean(axis=1, keepdims=True)  # what a softmax tells apart

    options = {"epochs": 20, "freeze_encoders": True, "views": 1, "head_lr": 3e-3, "captions_per_image": captions}
    distances = []
    for distill in (0.0, 50.0):
        config = TrainConfig(distill=distill, **options, **QUICK)
        trained = train(TrainingJob(tiny, pairs, config=config, teacher=teacher)).checkpoint
        distances.append(float(np.abs(similarities(trained) - similarities(teacher)).mean()))
    assert distances[1] < 0.7 * distances[0]


@pytest.mark.slow
def test_anchors_stay_where_they_are_while_the_rest_learns(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs, words = coloured_pairs(tmp_path), ["a dog", "two cats on the grass", "a circle"]
    (tmp_path / "anchors.txt").write_text("\n".join([*words, "", words[0]]))
    before = ClipEmbedder.from_checkpoint(tiny, device="cpu").embed_texts(words)
    moved = []
    for changes in ({}, {"distill": 20.0, "anchors": str(tmp_path / "anchors.txt"), "anchors_per_step": 2}):
        config = TrainConfig(epochs=20, text_lr=1e-3, image_lr=0, head_lr=3e-3, **QUICK, **changes)
        trained = train(TrainingJob(tiny, pairs, config=config)).checkpoint
        after = ClipEmbedder.from_checkpoint(trained, device="cpu").embed_texts(words)
        moved.append(float(1 - (before * after).sum(1).mean()))
    assert moved[1] < 0.3 * moved[0]


@pytest.mark.slow
def test_images_stay_where_they_are_among_the_anchors_while_the_rest_learns(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs, words = coloured_pairs(tmp_path), ["a dog", "two cats on the grass", "a circle", "grass"]
    (tmp_path / "anchors.txt").write_text("\n".join(words))
    anchors = ClipEmbedder.from_checkpoint(tiny, device="cpu").embed_texts(words).T

    def chances(checkpoint: Checkpoint) -> np.ndarray:
        rows = ClipEmbedder.from_checkpoint(checkpoint, device="cpu").embed_images([pair.image for pair in pairs])
        logits = np.exp(30 * rows @ anchors)
        return logits / logits.sum(axis=1, keepdims=True)

    moved = []
    for changes in ({"distill": 1e-9}, {"distill": 1e-9, "distill_images": 30.0}):
        options = {"text_lr": 0, "image_lr": 1e-3, "head_lr": 3e-3, "frozen_stages": 2, "views": 2, **QUICK, **changes}
        config = TrainConfig(epochs=20, anchors=str(tmp_path / "anchors.txt"), **options)
        trained = train(TrainingJob(tiny, pairs, config=config)).checkpoint
        moved.append(float(np.abs(chances(trained) - chances(tiny)).mean()))
    assert moved[1] < 0.4 * moved[0]


def test_anchors_that_cannot_be_read_are_told(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs = coloured_pairs(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    for name, complaint in (("empty.txt", "holds no text"), ("none.txt", "cannot read it as texts")):
        config = TrainConfig(distill=1.0, anchors=str(tmp_path / name), **QUICK)
        with pytest.raises(ConfigError, match=complaint):
            train(TrainingJob(tiny, pairs, config=config))
    with pytest.raises(ConfigError, match=r"anchors is 'a\.txt' but distill is 0"):
        TrainConfig(anchors="a.txt")
    with pytest.raises(ConfigError, match=r"distill_images is 0\.5 but anchors is none"):
        train(TrainingJob(tiny, pairs, config=TrainConfig(distill=1.0, distill_images=0.5, **QUICK)))


def test_an_epoch_of_a_mixture_follows_its_weights(tmp_path: Path, tiny: Checkpoint) -> None:
    pairs, watched = coloured_pairs(tmp_path), Epochs()
    mixture = Mixture([Part(pairs[:4], weight=3), Part(pairs[4:], weight=1)])
    train(TrainingJob(tiny, mixture, config=TrainConfig(epochs=1, freeze_encoders=True, **QUICK)), watcher=watched)
    assert len(watched.steps) == 4
