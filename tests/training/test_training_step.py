"""A step's gradients are those of the loss of the whole batch, however small the chunks that it is computed in."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import WORDS, tiny_checkpoint
from torch import Tensor, nn

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import INITIAL_LOGIT_SCALE
from clip_qdrant_training import TrainConfig
from clip_qdrant_training.inputs.samples import Batch
from clip_qdrant_training.loop.gradients import StepInputs, backward
from clip_qdrant_training.network.towers import Towers
from clip_qdrant_training.objective import losses
from clip_qdrant_training.objective.objective import Objective

pytestmark = pytest.mark.usefixtures("one_thread")

LOSSES: dict[str, dict[str, Any]] = {
    "info_nce": {"captions_per_image": 3},
    "sigmoid": {"loss": "sigmoid", "captions_per_image": 3},
    "soft_targets": {"loss": "soft_targets"},
    "info_nce and a teacher": {"captions_per_image": 2, "distill": 0.7},
    "soft_targets and a teacher": {"loss": "soft_targets", "distill": 0.7},
    "sigmoid and anchors": {"loss": "sigmoid", "captions_per_image": 2, "distill": 0.7},
    "soft_targets and anchors": {"loss": "soft_targets", "distill": 0.7},
}
ANCHORS = ["a photo of two dogs", "grass", "the red circle on the square", "cat", "runs on"]


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return tiny_checkpoint(dropout=0.3)


@dataclass
class Case:
    """A network in training, a batch for it, and the loss over it."""

    towers: Towers
    batch: Batch
    objective: Objective
    config: TrainConfig
    teacher: tuple[Tensor, Tensor] | None
    anchored: bool = False  # the teacher's second rows are of ANCHORS

    @property
    def model(self) -> nn.Module:
        return self.towers.model

    def inputs(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.towers.image_inputs(self.batch.pixels), self.towers.text_inputs(self.batch.texts)

    def anchors(self) -> tuple[Tensor, ...] | None:
        return self.towers.text_inputs(ANCHORS) if self.anchored else None

    def gradients(self) -> dict[str, Tensor]:
        named = [*self.model.named_parameters(), *self.objective.parameters.items()]
        return {name: p.grad.clone() for name, p in named if p.grad is not None}

    def forget(self) -> None:
        for parameter in (*self.model.parameters(), *self.objective.parameters.values()):
            parameter.grad = None

    def stepped(self, chunk_size: int | None = None) -> tuple[float, dict[str, Tensor]]:
        self.forget()
        images, texts = self.inputs()
        torch.manual_seed(7)
        loss = backward(
            self.towers,
            StepInputs(self.batch, images, texts, self.teacher, self.anchors()),
            self.objective,
            chunk_size=chunk_size,
        )
        return loss, self.gradients()

    def plain(self, chunk_size: int | None = None) -> tuple[float, dict[str, Tensor]]:
        """The same from one graph over all rows. They are encoded in chunks only so that the same units drop out."""
        self.forget()
        images, texts = self.inputs()
        captions, size = self.config.captions_per_image, chunk_size or len(images)
        torch.manual_seed(7)
        rows = torch.cat([self.towers.image_rows(part) for part in images.split(size)])
        others = []
        for inputs in (texts, self.anchors()):
            parts = zip(*(each.split(size * captions) for each in inputs or ()), strict=True)
            others.append([self.towers.text_rows(*part) for part in parts])
        ignore = losses.duplicates(self.batch.image_keys, self.batch.text_keys)
        anchors = torch.cat(others[1]) if self.anchored else None
        loss = self.objective(rows, torch.cat(others[0]), ignore, self.teacher, anchors)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return float(loss.detach()), self.gradients()


def case(
    tiny: Checkpoint,
    n: int = 8,
    *,
    size: int = 32,
    dropout: bool = True,
    towers: dict[str, Any] | None = None,
    anchored: bool = False,
    **options: Any,
) -> Case:
    config = TrainConfig(batch_size=max(2, n), **options)
    checkpoint = replace(tiny, model=copy.deepcopy(tiny.model))
    checkpoint.model.train(dropout)
    for module in checkpoint.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    objective = Objective(config, checkpoint.model.logit_scale)
    rng = np.random.default_rng(0)
    count = n * config.captions_per_image
    keys = torch.arange(n)
    if n > 5:
        keys[4] = 1  # a copy of the image before it
    batch = Batch(
        numbers=list(range(n)),
        views=[1] * n,
        missing=list(range(n)),
        pixels=torch.from_numpy(rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)),
        texts=[" ".join(rng.choice(WORDS, int(rng.integers(1, 9)))) for _ in range(count)],
        image_keys=keys,
        text_keys=torch.arange(count),
    )
    teacher = None
    if config.distill:
        generator = torch.Generator().manual_seed(3)
        # Anchors are compared with where the teacher had them, so in the student's own space.
        dim, texts = (tiny.model.dim, len(ANCHORS)) if anchored else (8, n)
        first, second = (F.normalize(torch.randn(m, dim, generator=generator), dim=-1) for m in (n, texts))
        teacher = first, second
    made = Towers(
        checkpoint,
        **{
            "frozen_stages": 0,
            "frozen_text": False,
            "precision": torch.float32,
            "unit": objective.unit,
            **(towers or {}),
        },
    )
    return Case(made, batch, objective, config, teacher, anchored)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(each.abs().max()) for each in expected.values())
    for name, gradient in expected.items():
        # Some gradients are zero but for rounding, such as those of the keys' biases: so no smaller scale than 1e-3.
        scale = max(float(gradient.abs().max()), 1e-3 * largest)
        assert float((found[name] - gradient).abs().max()) <= 1e-5 * scale, name


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("chunk_size", [None, 3, 1])
def test_gradients_are_those_of_one_graph_over_the_whole_batch(
    tiny: Checkpoint, loss: str, chunk_size: int | None
) -> None:
    made = case(tiny, anchored="anchors" in loss, **LOSSES[loss])
    expected_loss, expected = made.plain(chunk_size)
    found_loss, found = made.stepped(chunk_size)
    assert found_loss == pytest.approx(expected_loss, rel=1e-5)
    learning = {name for name, _ in made.model.named_parameters()} | set(made.objective.parameters)
    if loss in ("soft_targets", "soft_targets and anchors"):
        learning.remove("logit_scale")  # it has no part in that loss
    assert expected.keys() == learning
    assert all(float(gradient.abs().max()) > 0 for gradient in expected.values())
    assert_same(found, expected)


def test_without_dropout_chunks_change_nothing_at_all(tiny: Checkpoint) -> None:
    made = case(tiny, dropout=False, captions_per_image=2)
    expected_loss, expected = made.stepped()
    for chunk_size in (3, 8, 100):
        found_loss, found = made.stepped(chunk_size)
        assert found_loss == pytest.approx(expected_loss, rel=1e-5)
        assert_same(found, expected)


def test_dropout_is_on_in_these_tests_and_differs_from_chunk_to_chunk(tiny: Checkpoint) -> None:
    made = case(tiny)
    assert made.stepped(3)[0] != made.stepped(4)[0]
    assert case(tiny, dropout=False).stepped(3)[0] == pytest.approx(case(tiny, dropout=False).stepped(4)[0], rel=1e-5)


def test_gradients_are_added_to_those_there_are(tiny: Checkpoint) -> None:
    made = case(tiny, captions_per_image=2)
    _, once = made.stepped(3)
    torch.manual_seed(7)
    backward(made.towers, StepInputs(made.batch, *made.inputs()), made.objective, chunk_size=3)
    assert_same(made.gradients(), {name: 2 * gradient for name, gradient in once.items()})


def test_random_numbers_go_on_as_if_each_row_had_been_encoded_once(tiny: Checkpoint) -> None:
    made = case(tiny)
    made.plain(3)
    expected = torch.rand(4)
    made.stepped(3)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("frozen_stages", [1, 4, 7])
def test_above_frozen_stages_gradients_are_those_of_the_whole_network(tiny: Checkpoint, frozen_stages: int) -> None:
    _, everything = case(tiny, dropout=False).stepped()
    made = case(tiny, dropout=False, towers={"frozen_stages": frozen_stages, "frozen_text": True})
    for chunk_size in (None, 3):
        _, found = made.stepped(chunk_size)
        image = [name for name in found if name.startswith("image_encoder")]
        assert bool(image) == (frozen_stages < 7)
        assert not any(name.startswith(("text_encoder", "image_encoder.model.conv_stem")) for name in found)
        assert {name for name in everything if "projection" in name} | {"logit_scale"} <= found.keys()
        assert_same(found, {name: everything[name] for name in found})


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_a_batch_of_copies_has_nothing_to_learn(tiny: Checkpoint) -> None:
    made = case(tiny, 3)
    apart, _ = made.stepped()
    for keys in ({"image_keys": torch.zeros(3).long()}, {"text_keys": torch.zeros(3).long()}):
        made.batch = replace(case(tiny, 3).batch, **keys)
        loss, gradients = made.stepped(2)
        assert apart > 0.1 and loss == pytest.approx(0, abs=1e-6)
        assert all(float(gradient.abs().max()) < 1e-6 for gradient in gradients.values())


def test_a_copy_of_an_image_is_not_pushed_away_from_its_captions(tiny: Checkpoint) -> None:
    """Two copies of an image and a stranger: as the mean of both with the stranger, and of it with both."""
    made = case(tiny, 3, dropout=False)
    made.batch = replace(made.batch, image_keys=torch.tensor([0, 0, 1]))
    loss, found = made.stepped()
    made.forget()
    images, texts = made.inputs()
    rows, others = made.towers.image_rows(images), made.towers.text_rows(*texts)
    logits = made.towers.model.logit_scale.exp() * rows @ others.T
    to_text = [F.cross_entropy(logits[i, [i, 2]][None], torch.tensor([0])) for i in (0, 1)]
    to_image = [F.cross_entropy(logits[[i, 2], i][None], torch.tensor([0])) for i in (0, 1)]
    stranger = [F.cross_entropy(each[2][None], torch.tensor([2])) for each in (logits, logits.T)]
    expected = torch.stack([*to_text, *to_image, *stranger]).sum() / 6
    expected.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    assert_same(found, made.gradients())


# --- a teacher -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["info_nce", "soft_targets"])
def test_a_student_is_compared_with_its_teacher_by_cosines(loss: str) -> None:
    torch.manual_seed(0)
    scale = nn.Parameter(torch.tensor(2.0))
    images, texts = 5 * torch.randn(4, 8), 5 * torch.randn(4, 8)
    if loss == "info_nce":
        images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    taught = F.normalize(torch.randn(4, 6), dim=-1), F.normalize(torch.randn(4, 6), dim=-1)
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    parts = [
        float(Objective(TrainConfig(loss=loss, distill=distill), scale)(images, texts, nothing, taught).detach())
        for distill in (0.0, 1.0)
    ]
    rows = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    expected = losses.distillation(*rows, *taught, scale, teacher_scale=INITIAL_LOGIT_SCALE)
    assert parts[1] - parts[0] == pytest.approx(float(expected.detach()), rel=1e-4)


def test_of_several_captions_the_first_is_compared_with_the_teacher(tiny: Checkpoint) -> None:
    made = case(tiny, 4, dropout=False, captions_per_image=2, distill=1.0)
    expected, _ = made.stepped()
    assert made.teacher is not None
    swapped = [made.batch.texts[i ^ 1] for i in range(8)]
    made.batch = replace(made.batch, texts=swapped)
    assert made.stepped()[0] != pytest.approx(expected, rel=1e-3)


# --- memory ----------------------------------------------------------------------------------------------------------


class Watched(Towers):
    """Counts the bytes that encoding keeps for the backward pass: now, and at most so far."""

    now = most = 0

    def image_rows(self, inputs: Tensor) -> Tensor:
        with self._watch():
            return super().image_rows(inputs)

    def text_rows(self, *inputs: Tensor) -> Tensor:
        with self._watch():
            return super().text_rows(*inputs)

    def _watch(self) -> torch.autograd.graph.saved_tensors_hooks:
        towers = self

        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                self.tensor, self.bytes = tensor, tensor.numel() * tensor.element_size()
                towers.now += self.bytes
                towers.most = max(towers.most, towers.now)

            def __del__(self) -> None:
                towers.now -= self.bytes

        return torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor)


def watched(tiny: Checkpoint, n: int, chunk_size: int) -> int:
    made = case(tiny, n, size=16)
    made.towers.__class__ = Watched
    assert isinstance(made.towers, Watched)
    loss, _ = made.stepped(chunk_size)
    assert np.isfinite(loss)
    assert made.towers.now == 0
    return made.towers.most


@pytest.mark.slow
def test_a_batch_of_1024_keeps_the_activations_of_one_chunk(tiny: Checkpoint) -> None:
    one, whole = watched(tiny, 64, 64), watched(tiny, 256, 256)
    assert whole > 3 * one, "what is kept grows with the batch"
    assert watched(tiny, 1024, 64) < 1.05 * one
