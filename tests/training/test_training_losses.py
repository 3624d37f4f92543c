"""Each loss equals a naive loop over the pairs of a batch, and has the gradient it should."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from clip_qdrant.errors import TrainingError
from clip_qdrant_training.objective.losses import (
    anchoring,
    distillation,
    duplicates,
    image_anchoring,
    info_nce,
    sigmoid,
    soft_targets,
)

SCALE = torch.tensor(7.0, dtype=torch.float64).log()
CLOSE = 1e-9


def rows(n: int, *, seed: int, dim: int = 5, unit: bool = True) -> Tensor:
    """Random rows, float64 (n, dim)."""
    made = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(made, dim=-1) if unit else made


def batch(n: int, captions: int = 1) -> tuple[Tensor, Tensor]:
    return rows(n, seed=1), rows(n * captions, seed=2)


def mask(n: int, captions: int) -> Tensor:
    """A fifth of the pairs that are not an image's own."""
    chosen = torch.rand(n, n * captions, generator=torch.Generator().manual_seed(3)) < 0.2
    return chosen & (torch.arange(n)[:, None] != (torch.arange(n * captions) // captions)[None, :])


def naive_direction(logits: np.ndarray, positives: list[list[int]], ignore: np.ndarray) -> float:
    """The mean of -log p over rows and their positives, written out one number at a time."""
    losses = []
    for row, own in enumerate(positives):
        negatives = [column for column in range(logits.shape[1]) if column not in own and not ignore[row, column]]
        for positive in own:
            terms = [math.exp(logits[row, column]) for column in (positive, *negatives)]
            losses.append(-math.log(terms[0] / sum(terms)))
    return sum(losses) / len(losses)


def naive_info_nce(images: Tensor, texts: Tensor, scale: float, ignore: Tensor) -> float:
    logits, captions = scale * images.numpy() @ texts.numpy().T, len(texts) // len(images)
    own = [list(range(i * captions, (i + 1) * captions)) for i in range(len(images))]
    owners = [[j // captions] for j in range(len(texts))]
    to_text = naive_direction(logits, own, ignore.numpy())
    return (to_text + naive_direction(logits.T, owners, ignore.numpy().T)) / 2


@pytest.mark.parametrize("captions", [1, 3])
@pytest.mark.parametrize("ignoring", [False, True], ids=["all negatives", "some ignored"])
def test_info_nce_equals_a_naive_loop(captions: int, ignoring: bool) -> None:
    images, texts = batch(6, captions)
    ignore = mask(6, captions) if ignoring else None
    loss = info_nce(images, texts, SCALE, ignore=ignore)
    nothing = torch.zeros(6, 6 * captions, dtype=torch.bool)
    expected = naive_info_nce(images, texts, 7.0, nothing if ignore is None else ignore)
    assert loss.item() == pytest.approx(expected, abs=CLOSE)


def test_info_nce_of_a_plain_batch_is_the_cross_entropy_of_torch() -> None:
    images, texts = batch(6)
    logits = 7 * images @ texts.T
    both = [torch.nn.functional.cross_entropy(each, torch.arange(6)) for each in (logits, logits.T)]
    loss = info_nce(images, texts, SCALE)
    assert loss.item() == pytest.approx((both[0] + both[1]).item() / 2, abs=CLOSE)


def test_an_image_with_every_caption_twice_has_the_loss_of_one_with_each_once() -> None:
    """Siblings do not stand in each other's way; twice as many negatives do."""
    images, texts = batch(2)
    twice = texts.repeat_interleave(2, dim=0)
    other = (images @ texts.T * 7).numpy()
    to_text = np.mean([math.log1p(2 * math.exp(other[i, 1 - i] - other[i, i])) for i in range(2)])
    to_image = np.mean([math.log1p(math.exp(other[1 - i, i] - other[i, i])) for i in range(2)])
    assert info_nce(images, twice, SCALE).item() == pytest.approx((to_text + to_image) / 2, abs=CLOSE)


def test_an_ignored_pair_has_no_say_and_gets_no_gradient() -> None:
    images, texts = batch(3)
    moved = texts.clone()
    moved[2] = -images[0]
    ignore = torch.zeros(3, 3, dtype=torch.bool)
    ignore[0, 2] = True
    for loss in (
        lambda images, texts: info_nce(images, texts, SCALE, ignore=ignore),
        lambda images, texts: sigmoid(images, texts, SCALE, torch.tensor(-2.0), ignore=ignore),
    ):
        varied = images.clone().requires_grad_(), texts.clone().requires_grad_()
        [gradient] = torch.autograd.grad(loss(*varied), varied[:1])
        [elsewhere] = torch.autograd.grad(loss(varied[0], moved), varied[:1])
        assert torch.equal(gradient[0], elsewhere[0]), "image 0 does not see text 2"
        assert not torch.equal(gradient[1], elsewhere[1]), "image 1 does"


def test_a_mask_has_no_effect_on_own_pairs() -> None:
    images, texts = batch(3)
    own, bias = torch.eye(3, dtype=torch.bool), torch.tensor(-2.0)
    assert info_nce(images, texts, SCALE, ignore=own).item() == info_nce(images, texts, SCALE).item()
    assert sigmoid(images, texts, SCALE, bias, ignore=own).item() == sigmoid(images, texts, SCALE, bias).item()


def test_a_row_without_negatives_costs_nothing_and_has_a_gradient() -> None:
    images, texts = (each.requires_grad_() for each in batch(2))
    ignore = ~torch.eye(2, dtype=torch.bool)
    loss = info_nce(images, texts, SCALE, ignore=ignore)
    assert loss.item() == pytest.approx(0, abs=CLOSE)
    with torch.autograd.set_detect_anomaly(True):  # raises for a NaN anywhere on the way
        loss.backward()
    assert images.grad is not None and torch.count_nonzero(images.grad) == 0


@pytest.mark.parametrize("captions", [1, 3])
@pytest.mark.parametrize("ignoring", [False, True], ids=["all negatives", "some ignored"])
def test_sigmoid_equals_a_naive_loop(captions: int, ignoring: bool) -> None:
    images, texts = batch(5, captions)
    ignore = mask(5, captions) if ignoring else torch.zeros(5, 5 * captions, dtype=torch.bool)
    total = 0.0
    for i in range(5):
        for j in range(5 * captions):
            if not ignore[i, j]:
                label = 1 if j // captions == i else -1
                total += math.log1p(math.exp(-label * (7 * float(images[i] @ texts[j]) - 3)))
    loss = sigmoid(images, texts, SCALE, torch.tensor(-3.0, dtype=torch.float64), ignore=ignore if ignoring else None)
    assert loss.item() == pytest.approx(total / 5, abs=CLOSE)


def test_sigmoid_stays_finite_at_the_scale_of_a_trained_model() -> None:
    images = rows(4, seed=1).float()
    loss = sigmoid(images, -images, torch.tensor(117.0).log(), torch.tensor(-13.0))
    assert 100 < loss.item() < 1000


def naive_soft_targets(images: np.ndarray, texts: np.ndarray, temperature: float) -> float:
    n = len(images)

    def softmax(values: list[float]) -> list[float]:
        return [math.exp(value) / sum(map(math.exp, values)) for value in values]

    logits = [[float(texts[i] @ images[j]) / temperature for j in range(n)] for i in range(n)]
    targets = [
        softmax([float(images[i] @ images[j] + texts[i] @ texts[j]) / 2 * temperature for j in range(n)])
        for i in range(n)
    ]
    total = 0.0
    for i in range(n):
        of_row, of_column = softmax(logits[i]), softmax([logits[j][i] for j in range(n)])
        total -= sum(targets[i][j] * math.log(of_row[j]) + targets[j][i] * math.log(of_column[j]) for j in range(n)) / 2
    return total / n


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_soft_targets_equal_a_naive_loop_over_rows_of_any_length(temperature: float) -> None:
    images, texts = rows(5, seed=1, unit=False), rows(5, seed=2, unit=False)
    loss = soft_targets(images, texts, temperature)
    assert loss.item() == pytest.approx(naive_soft_targets(images.numpy(), texts.numpy(), temperature), abs=CLOSE)


def test_the_gradient_of_soft_targets_flows_through_the_targets() -> None:
    images, texts = rows(3, seed=1, unit=False), rows(3, seed=2, unit=False)
    step = torch.zeros_like(images)
    step[0, 0] = 1e-6
    slope = (
        naive_soft_targets((images + step).numpy(), texts.numpy(), 1.0)
        - naive_soft_targets((images - step).numpy(), texts.numpy(), 1.0)
    ) / 2e-6
    [gradient] = torch.autograd.grad(soft_targets(images.requires_grad_(), texts), images)
    assert gradient[0, 0].item() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("captions", [1, 2])
def test_distillation_is_the_divergence_from_the_teacher_both_ways(captions: int) -> None:
    images, texts = batch(4, captions)
    teacher_images, teacher_texts = rows(4, seed=5, dim=9), rows(4 * captions, seed=6, dim=9)
    student, teacher = (7 * images @ texts.T).numpy(), (20 * teacher_images @ teacher_texts.T).numpy()
    both = 0.0
    for ours, theirs in ((student, teacher), (student.T, teacher.T)):
        for a, b in zip(ours, theirs, strict=True):
            q, p = np.exp(a) / np.exp(a).sum(), np.exp(b) / np.exp(b).sum()
            both += float((p * np.log(p / q)).sum()) / len(ours)
    loss = distillation(images, texts, teacher_images, teacher_texts, SCALE, teacher_scale=math.log(20))
    assert loss.item() == pytest.approx(both / 2, abs=CLOSE)


def test_a_student_like_its_teacher_has_nothing_to_learn_and_the_teacher_gets_no_gradient() -> None:
    images, texts = batch(4)
    teacher = images.clone().requires_grad_()
    same = distillation(images.requires_grad_(), texts, teacher, texts, SCALE, teacher_scale=SCALE)
    assert same.item() == pytest.approx(0, abs=CLOSE)
    other = distillation(images, texts, teacher, rows(4, seed=9), SCALE, teacher_scale=SCALE)
    assert other.item() > 0.01
    other.backward()
    assert images.grad is not None and teacher.grad is None


LOSSES: list[tuple[str, Callable[[Tensor, Tensor, Tensor], Tensor], int]] = [
    ("info_nce", lambda i, t, s: info_nce(i, t, s, ignore=mask(3, 2)), 2),
    ("sigmoid", lambda i, t, s: sigmoid(i, t, s, 0.5 * s, ignore=mask(3, 2)), 2),
    ("soft_targets", lambda i, t, s: soft_targets(i, t), 1),
    ("distillation", lambda i, t, s: distillation(i, t, rows(3, seed=7), rows(6, seed=8), s, teacher_scale=2.0), 2),
]


@pytest.mark.parametrize(("loss", "captions"), [entry[1:] for entry in LOSSES], ids=[entry[0] for entry in LOSSES])
def test_gradients_agree_with_finite_differences(loss: Callable[..., Tensor], captions: int) -> None:
    images, texts = (each.requires_grad_() for each in batch(3, captions))
    assert torch.autograd.gradcheck(loss, (images, texts, SCALE.clone().requires_grad_()))


@pytest.mark.parametrize(("loss", "captions"), [entry[1:] for entry in LOSSES], ids=[entry[0] for entry in LOSSES])
def test_half_precision_rows_and_autocast_lose_nothing(loss: Callable[..., Tensor], captions: int) -> None:
    images, texts = (each.bfloat16() for each in batch(3, captions))
    exact = loss(images.float(), texts.float(), SCALE.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [loss(images, texts, SCALE.float()), loss(images.float(), texts.float(), SCALE.float())]
    for each in inside:
        assert each.dtype == torch.float32
        assert each.item() == pytest.approx(exact.item(), rel=1e-6)


def test_copies_of_an_image_and_of_its_captions_are_no_negatives() -> None:
    images = torch.tensor([10, 11, 10, 12])  # image 2 is a copy of image 0
    texts = torch.tensor([1, 2, 3, 4, 5, 6, 7, 2])  # the last text is also the second one of image 0
    expected = torch.zeros(4, 8, dtype=torch.bool)
    expected[0, 4:6] = expected[2, 0:2] = True  # texts of the copy
    expected[0, 7] = expected[3, 1] = True  # each of the two equal texts fits the other's image
    assert torch.equal(duplicates(images, texts), expected)


def test_duplicates_equal_a_naive_loop_and_never_hold_an_own_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randint(0, 6, (9,), generator=generator), torch.randint(0, 20, (27,), generator=generator)
    found = duplicates(images, texts)
    for i in range(9):
        for j in range(27):
            same = images[i] == images[j // 3] or texts[j] in texts[3 * i : 3 * i + 3]
            assert found[i, j].item() == (bool(same) and j // 3 != i)
    assert not duplicates(torch.arange(4), torch.arange(4)).any()


def test_texts_that_do_not_go_with_the_images_are_refused() -> None:
    images, texts = rows(3, seed=1), rows(4, seed=2)
    bias = torch.tensor(-1.0)
    for loss in (
        lambda: info_nce(images, texts, SCALE),
        lambda: sigmoid(images, texts, SCALE, bias),
        lambda: duplicates(torch.arange(3), torch.arange(4)),
        lambda: info_nce(images, texts[:0], SCALE),
    ):
        with pytest.raises(TrainingError, match="texts do not go with 3 images"):
            loss()
    with pytest.raises(TrainingError, match="6 texts do not go with 3 images: the loss needs one text an image"):
        soft_targets(images, rows(6, seed=2))
    with pytest.raises(TrainingError, match="the student ranked 3 images and 3 texts, its teacher 3 and 4"):
        distillation(images, images, images, texts, SCALE, teacher_scale=1.0)


def test_the_scale_is_clamped_at_a_hundred_but_not_that_of_the_sigmoid_loss() -> None:
    images, texts = batch(4)
    highest, beyond = (torch.tensor(scale, dtype=torch.float64).log() for scale in (100.0, 1000.0))
    teacher = rows(4, seed=5), rows(4, seed=6)
    assert info_nce(images, texts, beyond).item() == pytest.approx(info_nce(images, texts, highest).item())
    of_both = [distillation(images, texts, *teacher, scale, teacher_scale=2.0).item() for scale in (highest, beyond)]
    assert of_both[0] == pytest.approx(of_both[1])
    bias = torch.tensor(-10.0)
    assert sigmoid(images, texts, beyond, bias).item() > 5 * sigmoid(images, texts, highest, bias).item()


def test_anchoring_is_a_divergence_over_the_anchors_and_the_way_they_moved() -> None:
    images, anchors, old_images, old_anchors = (rows(n, seed=seed) for seed, n in enumerate((4, 5, 4, 5)))
    expected = 0.0
    for i in range(4):
        old = [30 * float(old_images[i] @ old_anchors[j]) for j in range(5)]
        new = [30 * float(images[i] @ anchors[j]) for j in range(5)]
        old_total, new_total = (math.log(sum(math.exp(each) for each in logits)) for logits in (old, new))
        for j in range(5):
            log_p, log_q = old[j] - old_total, new[j] - new_total
            expected += math.exp(log_p) * (log_p - log_q) / 4
    expected += sum(1 - float(anchors[j] @ old_anchors[j]) for j in range(5)) / 5

    loss = anchoring(images, anchors, old_images, old_anchors)

    assert loss.item() == pytest.approx(expected, abs=CLOSE)
    assert anchoring(images, anchors, images, anchors).item() == pytest.approx(0, abs=CLOSE)


def test_anchoring_leaves_the_teacher_alone() -> None:
    sides = [rows(n, seed=seed).requires_grad_(True) for seed, n in enumerate((4, 5, 4, 5))]
    anchoring(*sides).backward()
    assert [each.grad is not None for each in sides] == [True, True, False, False]


def test_image_anchoring_is_a_divergence_over_anchors_that_stand_still() -> None:
    images, old_images, anchors = (rows(n, seed=seed) for seed, n in enumerate((4, 4, 6)))
    expected = 0.0
    for i in range(4):
        old, new = ([30 * float(each[i] @ anchors[j]) for j in range(6)] for each in (old_images, images))
        old_total, new_total = (math.log(sum(math.exp(each) for each in logits)) for logits in (old, new))
        for j in range(6):
            log_p, log_q = old[j] - old_total, new[j] - new_total
            expected += math.exp(log_p) * (log_p - log_q) / 4

    assert image_anchoring(images, old_images, anchors).item() == pytest.approx(expected, abs=CLOSE)
    assert image_anchoring(images, images, anchors).item() == pytest.approx(0, abs=CLOSE)


def test_image_anchoring_leaves_the_teacher_alone() -> None:
    sides = [rows(n, seed=seed).requires_grad_(True) for seed, n in enumerate((4, 4, 6))]
    image_anchoring(*sides).backward()
    assert [each.grad is not None for each in sides] == [True, False, False]
