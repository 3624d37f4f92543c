"""Published models learn what the mode says and nothing else, by the loss of their family, from their own recall on."""

from __future__ import annotations

import logging
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from tiny import coloured_pairs, tiny_checkpoint
from tiny_published import LENGTH, SIZE, tiny_published
from torch import Tensor, nn

from clip_qdrant import ClipEmbedder
from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant_training import EpochReport, Pair, RunStart, StepReport, TrainConfig, TrainingJob, evaluate, train
from clip_qdrant_training.inputs.samples import Batch
from clip_qdrant_training.loop.gradients import StepInputs, backward
from clip_qdrant_training.loop.step import Learner
from clip_qdrant_training.network.kinds.open import open_network
from clip_qdrant_training.network.towers import Towers
from clip_qdrant_training.objective.objective import Objective
from clip_qdrant_training.run import run_training

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = ("clip", "siglip", "open_clip")
QUICK: dict[str, Any] = {"batch_size": 8, "views": 1, "crop": 1.0, "ratio": 1.0, "colour": 0.0, "flip": "off"}
QUICK |= {"device": "cpu", "threads": 1, "precision": "float32", "warmup": 0.1, "clip_norm": 0.0, "weight_decay": 0.0}
RATES = {"head_lr": 3e-3, "image_lr": 3e-3, "text_lr": 3e-3}
MODES: dict[str, dict[str, Any]] = {
    "heads": {"freeze_encoders": True},
    "last layers": {"last_layers": 1},
    "all": {},
    "lora": {"lora": 4},
}
HEADS = {
    "clip": ("model.visual_projection.*", "model.text_projection.*", "model.logit_scale"),
    "siglip": ("model.vision_model.head.*", "model.text_model.head.*", "model.logit_*"),
    "open_clip": ("model.visual.proj", "model.text.text_projection", "model.logit_scale"),
}
LAST = {
    "clip": ("*.layers.1.*", "*.final_layer_norm.*", "*.post_layernorm.*"),
    "siglip": ("*.layers.1.*", "*.final_layer_norm.*", "*.post_layernorm.*"),
    "open_clip": ("*.resblocks.1.*", "*.ln_final.*", "*.ln_post.*"),
}
ADAPTED = {
    "clip": ("*_proj.weight", "*.fc?.weight"),
    "siglip": ("model.*.encoder.*_proj.weight", "model.*.encoder.*.fc?.weight"),
    "open_clip": ("*.in_proj_weight", "*.out_proj.weight", "*.c_*.weight"),
}
# SigLIP's keys have no part in attention's softmax, nor have unused positions and words.
UNMOVED = ("*.k_proj.bias", "*.in_proj_bias", "*position*", "*token_embedding*", "*embeddings*")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    return coloured_pairs(tmp_path_factory.mktemp("images"))


class Epochs:
    """A watcher that keeps the reports of epochs, and stops the run after some steps."""

    def __init__(self, most: int = 10_000) -> None:
        self.reports: list[EpochReport] = []
        self.steps: list[StepReport] = []
        self._most = most

    def started(self, run: RunStart) -> None:
        self.run = run

    def stepped(self, report: StepReport) -> None:
        self.steps.append(report)
        if len(self.steps) == self._most:
            raise KeyboardInterrupt

    def epoch_ended(self, report: EpochReport) -> None:
        self.reports.append(report)

    def ended(self) -> None:
        pass


def changed(start: Checkpoint, end: Checkpoint) -> set[str]:
    """The names of the weights that are others than at the start."""
    before, after = start.model.state_dict(), end.model.state_dict()
    assert before.keys() == after.keys()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def matching(model: nn.Module, *patterns: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def score(metrics: Any) -> float:
    return float(np.mean(list(metrics.values())))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_each_mode_raises_recall_and_changes_what_it_says(family: str, mode: str, pairs: list[Pair]) -> None:
    start, watcher = tiny_published(family), Epochs()
    config = TrainConfig(epochs=25 if family == "open_clip" else 12, **RATES, **MODES[mode], **QUICK)
    trained = train(TrainingJob(start, pairs, pairs, config), watcher=watcher).checkpoint
    first, last = watcher.reports[0], max(watcher.reports, key=lambda report: score(report.metrics))
    own = evaluate(ClipEmbedder.from_checkpoint(start, device="cpu"), pairs)
    assert first.metrics == pytest.approx(own), "epoch 0 is the start"
    assert score(last.metrics) > score(first.metrics) + 5
    assert trained.metrics == pytest.approx(evaluate(ClipEmbedder.from_checkpoint(trained, device="cpu"), pairs))
    heads = matching(start.model, *HEADS[family])
    everything = {name for name, _ in start.model.named_parameters()}
    expected = {
        "heads": heads,
        "last layers": heads | matching(start.model, *LAST[family]),
        "all": everything,
        "lora": heads | matching(start.model, *ADAPTED[family]),
    }[mode]
    moved = changed(start, trained)
    assert moved <= expected
    assert expected - moved <= matching(start.model, *UNMOVED)
    assert trained.trained_on == (f"hf:tiny-{family}", "own pairs")


def test_the_loss_is_that_of_the_family_unless_another_is_asked_for(pairs: list[Pair]) -> None:
    found = {
        family: TrainingJob(start, pairs).config.loss
        for family, start in (("own", tiny_checkpoint()), *((each, tiny_published(each)) for each in FAMILIES))
    }
    assert found == {"own": "info_nce", "clip": "info_nce", "siglip": "sigmoid", "open_clip": "info_nce"}
    assert TrainingJob(tiny_published("siglip"), pairs, config=TrainConfig(loss="info_nce")).config.loss == "info_nce"


def test_rates_that_are_not_given_suit_the_start_and_what_learns(pairs: list[Pair]) -> None:
    def rates(start: Checkpoint, **options: Any) -> tuple[float, ...]:
        return tuple(TrainingJob(start, pairs, config=TrainConfig(**options)).config.peak_rates().values())

    own, clip = tiny_checkpoint(), tiny_published("clip")
    assert rates(own) == (1e-3, 1e-4, 1e-5)
    assert rates(clip) == (1e-5, 1e-5, 1e-5)
    assert rates(clip, freeze_encoders=True)[0] == rates(clip, last_layers=0)[0] == 1e-4
    assert rates(clip, lora=2) == (1e-5, 2e-4, 2e-4)
    assert rates(clip, image_lr=0.5, head_lr=0.25) == (0.25, 0.5, 1e-5)


# --- gradients -------------------------------------------------------------------------------------------------------


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(each.abs().max()) for each in expected.values())
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), 1e-2 * largest)  # those of keys' biases are zero but for rounding
        assert float((found[name] - gradient).abs().max()) <= 2e-5 * scale, name


def make_batch(n: int = 6) -> Batch:
    rng = np.random.default_rng(0)
    texts = ["a photo", "two dog", "red square on grass", "the cat runs", "a blue circle", "green grass"]
    pixels = torch.from_numpy(rng.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8))
    keys = torch.arange(n)
    return Batch(list(range(n)), [1] * n, list(range(n)), pixels, texts[:n], keys, keys)


def step(start: Checkpoint, *, stages: int = 0, text: bool = False, chunk: int | None = None) -> tuple[float, Any]:
    """The loss of a batch and its gradients, as a run computes them."""
    network = open_network(start)
    towers = Towers(start, frozen_stages=stages, frozen_text=text, precision=torch.float32, unit=True, network=network)
    config = TrainingJob(start, [], config=TrainConfig()).config
    batch = make_batch()
    inputs = StepInputs(batch, towers.image_inputs(batch.pixels), towers.text_inputs(batch.texts))
    start.model.zero_grad(set_to_none=True)
    objective = Objective(config, network.logit_scale, network.logit_bias)
    loss = backward(towers, inputs, objective, chunk_size=chunk)
    return loss, gradients_of(start.model)


def reference(family: str, start: Checkpoint) -> tuple[float, dict[str, Tensor]]:
    """The same from the network's own library."""
    model, batch = start.model, make_batch()
    towers = Towers(start, frozen_stages=0, frozen_text=False, precision=torch.float32, unit=True)
    pixels = model.pixel_norm(batch.pixels)
    ids, mask = towers.text_inputs(batch.texts)
    model.zero_grad(set_to_none=True)
    if family == "open_clip":
        images, texts, scale = model.model(pixels, nn.functional.pad(ids, (0, LENGTH - ids.shape[1])))
        loss = ClipLoss()(images, texts, scale)
    elif family == "clip":
        loss = model.model(input_ids=ids, attention_mask=mask, pixel_values=pixels, return_loss=True).loss
    else:
        loss = model.model(input_ids=ids, pixel_values=pixels, return_loss=True).loss
    loss.backward()
    return float(loss.detach()), gradients_of(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_models_own_library(family: str) -> None:
    start = tiny_published(family)
    expected_loss, expected = reference(family, start)
    for chunk in (None, 4, 1):
        loss, found = step(start, chunk=chunk)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert_same(found, expected)


def test_the_sigmoid_loss_is_that_of_open_clip_too() -> None:
    start = tiny_published("siglip")
    batch, model = make_batch(), start.model
    towers = Towers(start, frozen_stages=0, frozen_text=False, precision=torch.float32, unit=True)
    images = model.encode_image(batch.pixels)
    texts = model.encode_text(*towers.text_inputs(batch.texts))
    expected = SigLipLoss()(images, texts, model.model.logit_scale.exp(), model.model.logit_bias)
    assert step(start)[0] == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_above_a_cut_gradients_are_those_of_the_whole_network(family: str) -> None:
    start = tiny_published(family)
    _, everything = step(start)
    depth = open_network(start).image.depth
    assert depth == 3, "a stem and two layers"
    for stages in range(1, depth + 1):
        _, found = step(start, stages=stages, text=stages == depth, chunk=4)
        names = {name for name in everything if not name.startswith("pixel_norm")}
        assert found.keys() < names
        learning = matching(start.model, *HEADS[family], *(LAST[family] if stages < depth else ()))
        if stages == depth:
            assert found.keys() == learning
        assert_same(found, {name: everything[name] for name in found})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["last layers", "lora"])
def test_in_bfloat16_the_loss_is_nearly_that_of_float32(family: str, mode: str, pairs: list[Pair]) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        watcher = Epochs()
        config = TrainConfig(epochs=1, **{**QUICK, **MODES[mode], "precision": precision})
        train(TrainingJob(tiny_published(family), pairs, config=config), watcher=watcher)
        losses.append([report.loss for report in watcher.steps])
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


# --- adapters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_begin_at_the_start_and_end_in_its_weights(family: str, pairs: list[Pair]) -> None:
    start, batch = tiny_published(family), make_batch()
    learner = Learner(TrainingJob(start, pairs, config=TrainConfig(lora=3, lora_scale=0.5, **QUICK)))
    adapters = {n: p for n, p in learner.model.named_parameters() if n.endswith(("lora_up", "lora_down"))}
    assert len(adapters) == 2 * len(matching(start.model, *ADAPTED[family]))
    assert {p.requires_grad for p in adapters.values()} == {True}

    def rows(model: Any) -> Tensor:
        inputs = learner.towers.text_inputs(batch.texts)
        with torch.no_grad():
            return torch.cat([model.encode_image(batch.pixels), model.encode_text(*inputs)])

    torch.testing.assert_close(rows(learner.model), rows(start.model), rtol=0, atol=1e-5)
    with torch.no_grad():
        for name, parameter in adapters.items():
            if name.endswith("lora_up"):
                parameter.normal_(std=0.1)
    assert float((rows(learner.model) - rows(start.model)).abs().max()) > 0.01
    torch.testing.assert_close(rows(learner.checkpoint().model), rows(learner.model), rtol=0, atol=1e-5)
    learner.close()


def test_adapters_of_rank_four_learn_few_parameters(pairs: list[Pair]) -> None:
    watcher = Epochs()
    config = TrainConfig(epochs=1, lora=1, **QUICK)
    train(TrainingJob(tiny_published("clip"), pairs, pairs, config), watcher=watcher)
    assert watcher.run.trainable < watcher.run.parameters / 10


def test_our_own_encoders_take_adapters_where_they_have_linear_layers(pairs: list[Pair]) -> None:
    start = tiny_checkpoint()
    config = TrainConfig(epochs=2, lora=2, **RATES, **QUICK)
    trained = train(TrainingJob(start, pairs, config=config)).checkpoint
    moved = {name for name in changed(start, trained) if "_encoder." in name}
    assert moved and all(name.startswith("text_encoder.") and name.endswith("weight") for name in moved)
    with pytest.raises(ConfigError, match=r"lora is 2, and .* no linear layer to adapt: leave it out \(lora=0\)"):
        train(TrainingJob(start, pairs, config=replace(config, text_lr=0.0)))


# --- going on, mixing ------------------------------------------------------------------------------------------------


def test_a_resumed_run_reaches_the_weights_of_an_undisturbed_one(pairs: list[Pair], tmp_path: Path) -> None:
    config = TrainConfig(epochs=3, lora=2, ema=0.5, wise_ft=True, save_every=1, **RATES, **{**QUICK, "batch_size": 4})
    job = TrainingJob(tiny_published("siglip"), pairs, pairs, config)
    expected = train(job, run=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(job, run=tmp_path / "run", watcher=Epochs(most=3))
    found = train(job, run=tmp_path / "run", resume=True)
    assert found.checkpoint.fingerprint() == expected.checkpoint.fingerprint()
    assert found.mixes == expected.mixes
    again = train(job, run=tmp_path / "run", resume=True)  # finished: mixes again, and ends alike
    assert again.checkpoint.fingerprint() == expected.checkpoint.fingerprint()


@pytest.mark.parametrize("mode", ["all", "lora"])
def test_the_mix_of_start_and_end_is_the_best_on_the_validation_pairs(
    mode: str, pairs: list[Pair], caplog: pytest.LogCaptureFixture
) -> None:
    start, watcher = tiny_published("clip"), Epochs()
    config = TrainConfig(epochs=4, wise_ft=True, **RATES, **MODES[mode], **QUICK)
    validation = pairs[::2]
    with caplog.at_level(logging.INFO):
        outcome = train(TrainingJob(start, pairs[1::2], validation, config), watcher=watcher)
    assert [mix.share for mix in outcome.mixes] == [tenths / 10 for tenths in range(11)]
    assert outcome.mixes[0].metrics == pytest.approx(watcher.reports[0].metrics)
    trained = max(watcher.reports[1:], key=lambda report: sum(report.metrics.values()))
    assert outcome.mixes[10].metrics == pytest.approx(trained.metrics)
    best = max(score(each.metrics) for each in (*outcome.mixes, *watcher.reports))
    assert score(outcome.checkpoint.metrics) == pytest.approx(best)
    again = evaluate(ClipEmbedder.from_checkpoint(outcome.checkpoint, device="cpu"), validation)
    assert again == pytest.approx(outcome.checkpoint.metrics)


def test_a_run_without_pairs_to_judge_by_cannot_choose_a_mix(pairs: list[Pair]) -> None:
    with pytest.raises(ConfigError, match="wise_ft is on, and there are no validation pairs"):
        train(TrainingJob(tiny_published("clip"), pairs, config=TrainConfig(wise_ft=True, **QUICK)))


# --- the rest --------------------------------------------------------------------------------------------------------


def test_a_published_model_may_teach_another(pairs: list[Pair]) -> None:
    config = TrainConfig(epochs=1, distill=1.0, **QUICK)
    teacher = tiny_published("siglip")
    trained = train(TrainingJob(tiny_published("clip"), pairs, pairs, config, teacher=teacher)).checkpoint
    assert trained.metrics


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"loss": "soft_targets"},
            "loss is 'soft_targets', .* for a published model info_nce and sigmoid are possible",
        ),
        ({"dropout": 0.2}, "dropout is 0.2: heads of a published model have none; leave it out"),
        ({"frozen_stages": 4}, "frozen_stages is 4: the image encoder has 3 stages; give 3 to freeze all of it"),
    ],
)
def test_what_a_published_model_cannot_do_is_refused(
    options: dict[str, Any], complaint: str, pairs: list[Pair]
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        train(TrainingJob(tiny_published("clip"), pairs, config=TrainConfig(**options, **QUICK)))


def test_a_start_without_a_text_encoder_is_refused_by_name(pairs: list[Pair]) -> None:
    start = tiny_published("clip")
    start.model.encode_text = None
    with pytest.raises(TrainingError, match=r"hf:tiny-clip has no text encoder, .* start from a model with both"):
        train(TrainingJob(start, pairs, config=TrainConfig(**QUICK)))


class Second(nn.Module):
    """A layer that also takes what the first layer was given."""

    def __init__(self, layer: nn.Module, first: nn.Module) -> None:
        super().__init__()
        self.layer, self.first = layer, [first]

    def forward(self, values: Tensor, mask: Tensor | None, **named: Any) -> Tensor:
        rows: Tensor = self.layer(values + self.first[0].given.mean(0), mask, **named)
        return rows


def test_a_network_that_hands_on_more_than_one_tensor_is_trained_with_nothing_kept(
    pairs: list[Pair], caplog: pytest.LogCaptureFixture
) -> None:
    start = tiny_published("clip")
    layers = start.model.model.vision_model.encoder.layers
    layers[1] = Second(layers[1], layers[0])
    layers[0].register_forward_pre_hook(lambda module, args: setattr(module, "given", args[0].detach()))
    config = TrainConfig(epochs=1, last_layers=1, **RATES, **QUICK)
    trained = train(TrainingJob(start, pairs, config=config)).checkpoint
    assert "what is frozen of the image encoder is computed in every step" in caplog.text
    assert changed(start, trained) <= matching(start.model, *HEADS["clip"], *LAST["clip"])


@pytest.mark.usefixtures("no_charts")
def test_the_report_of_a_run_shows_the_mixes(pairs: list[Pair], tmp_path: Path) -> None:
    config = TrainConfig(epochs=1, wise_ft=True, freeze_encoders=True, **RATES, **QUICK)
    run_training(TrainingJob(tiny_published("clip"), pairs, pairs, config), tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Mixes of start and end" in page
    assert "share of the end" in page


def test_images_of_any_shape_are_refused_with_what_to_start_from() -> None:
    shapes: Any = SimpleNamespace(shape=(17, 192))  # rows of patches
    with pytest.raises(TrainingError, match=r"hf:tiny-clip takes images of any shape \(NaFlex\).* images of one size"):
        open_network(replace(tiny_published("clip"), preprocessing=shapes))
