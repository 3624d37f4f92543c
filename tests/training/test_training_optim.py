"""What learns, how fast, and when: groups, frozen parts, thawing, the schedule, and averaged weights."""

from __future__ import annotations

import copy
import math
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from tiny import SIZE, tiny_checkpoint
from torch import Tensor, nn

from clip_qdrant.errors import ConfigError
from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant_training import TrainConfig
from clip_qdrant_training.loop.optim import (
    AveragedWeights,
    learning_rates,
    make_optimizer,
    plateau,
    schedule,
    set_learning_rates,
)
from clip_qdrant_training.network.freezing import Freezing
from clip_qdrant_training.network.kinds.dual import DualNetwork

STAGES, LAYERS = 7, 3  # of the tiny network: a stem, five blocks and a head; embeddings and two layers


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    """With a concept head, whose classifier came with the image encoder. Tests leave it as it is."""
    return tiny_checkpoint(image_head="concept", text_head="residual", concepts=9).model


def freeze(model: DualEncoder, config: TrainConfig) -> Freezing:
    return Freezing(DualNetwork(model, (SIZE, SIZE, 3)), config)


def groups(
    model: DualEncoder, more: dict[str, nn.Parameter] | None = None, **options: Any
) -> dict[str, dict[str, Any]]:
    """The group of each parameter that learns, by its name."""
    config = TrainConfig(**options)
    optimizer = make_optimizer(freeze(model, config), config, more or {})
    names = {id(parameter): name for name, parameter in [*model.named_parameters(), *(more or {}).items()]}
    found = {names[id(parameter)]: group for group in optimizer.param_groups for parameter in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups), "none is there twice"
    return found


def learning(model: DualEncoder, **options: Any) -> set[str]:
    """The parameters that learn."""
    freeze(model, TrainConfig(**options)).apply()
    found = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.requires_grad_(True)
    return found


def named(model: DualEncoder, *patterns: str) -> set[str]:
    """The parameters that match a pattern; each pattern must match one."""
    found = [{n for n, _ in model.named_parameters() if fnmatchcase(n, pattern)} for pattern in patterns]
    assert all(found)
    return set().union(*found)


# --- groups ----------------------------------------------------------------------------------------------------------


def test_heads_and_encoders_learn_at_their_own_rates_and_only_matrices_decay(model: DualEncoder) -> None:
    bias = nn.Parameter(torch.tensor(-10.0))
    found = groups(model, {"logit_bias": bias}, head_lr=0.3, image_lr=0.2, text_lr=0.1, weight_decay=0.5)
    assert found.keys() == {name for name, _ in model.named_parameters()} | {"logit_bias"}
    parts = {"image_encoder": ("image", 0.2), "text_encoder": ("text", 0.1)}
    for name, parameter in [*model.named_parameters(), ("logit_bias", bias)]:
        label, rate = parts.get(name.partition(".")[0], ("heads", 0.3))
        group = found[name]
        assert (group["name"], group["lr"], group["peak"]) == (label, rate, rate)
        assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0)
    assert found["image_encoder.model.bn1.weight"]["weight_decay"] == 0
    assert found["logit_scale"]["weight_decay"] == found["logit_bias"]["weight_decay"] == 0
    assert found["text_encoder.model.encoder.layer.0.output.LayerNorm.weight"]["weight_decay"] == 0
    assert found["text_encoder.model.embeddings.word_embeddings.weight"]["weight_decay"] == 0.5


def test_encoders_may_decay_otherwise_than_heads(model: DualEncoder) -> None:
    found = groups(model, weight_decay=0.5, encoder_weight_decay=0.0)
    assert found["image_projection.expand.weight"]["weight_decay"] == 0.5
    assert found["image_encoder.model.conv_stem.weight"]["weight_decay"] == 0
    assert found["text_encoder.model.encoder.layer.0.output.dense.weight"]["weight_decay"] == 0


def test_heads_and_encoders_have_rates_of_their_own(model: DualEncoder) -> None:
    found = groups(model, head_lr=1.0, image_lr=0.5, text_lr=0.25)
    rates = {name: group["lr"] for name, group in found.items()}
    for name, rate in {
        "image_projection.expand.weight": 1.0,
        "logit_scale": 1.0,
        "image_encoder.model.conv_head.weight": 0.5,
        "image_encoder.model.bn2.bias": 0.5,
        "image_encoder.model.conv_stem.weight": 0.5,
        "text_encoder.model.encoder.layer.1.output.dense.weight": 0.25,
        "text_encoder.model.embeddings.word_embeddings.weight": 0.25,
    }.items():
        assert rates[name] == rate, name


def test_what_never_learns_is_in_no_group(model: DualEncoder) -> None:
    found = groups(model, frozen_stages=2, frozen_layers=1, freeze=("*.LayerNorm.*", "logit_scale"))
    frozen = named(
        model,
        "image_encoder.model.conv_stem.*",
        "image_encoder.model.bn1.*",
        "image_encoder.model.blocks.0.*",
        "text_encoder.model.embeddings.*",
        "text_encoder.*.LayerNorm.*",
        "logit_scale",
    )
    assert found.keys() == {name for name, _ in model.named_parameters()} - frozen


def test_rates_are_told_by_part_and_set_by_a_factor_of_their_peaks(model: DualEncoder) -> None:
    config = TrainConfig(head_lr=0.4, image_lr=0.2, text_lr=0.1)
    optimizer = make_optimizer(freeze(model, config), config, {})
    for _ in range(2):
        set_learning_rates(optimizer, 0.5)
    assert learning_rates(optimizer) == {"heads": 0.2, "image": 0.1, "text": 0.05}
    set_learning_rates(optimizer, 1.0)
    assert all(group["lr"] == group["peak"] for group in optimizer.param_groups)


# --- frozen parts ----------------------------------------------------------------------------------------------------


def test_frozen_encoders_leave_the_heads_without_what_came_with_the_encoder(model: DualEncoder) -> None:
    heads = named(model, "image_projection.*", "text_projection.*", "logit_scale")
    classifier = named(model, "image_projection.classifier.*")
    assert learning(model, freeze_encoders=True) == heads - classifier
    freezing = freeze(model, TrainConfig(freeze_encoders=True))
    assert (freezing.stages, freezing.text) == (STAGES, True)


def test_each_encoder_is_frozen_alone_by_a_rate_of_zero_or_by_all_of_its_layers(model: DualEncoder) -> None:
    everything = {name for name, _ in model.named_parameters()}
    image, text = named(model, "image_encoder.*"), named(model, "text_encoder.*")
    classifier = named(model, "image_projection.classifier.*")
    for options in ({"image_lr": 0.0}, {"frozen_stages": STAGES}):
        assert learning(model, **options) == everything - image - classifier
        assert freeze(model, TrainConfig(**options)).stages == STAGES
        assert not freeze(model, TrainConfig(**options)).text
    for options in ({"text_lr": 0.0}, {"frozen_layers": LAYERS}):
        assert learning(model, **options) == everything - text
        assert freeze(model, TrainConfig(**options)).text
        assert freeze(model, TrainConfig(**options)).stages == 0


def test_the_classifier_learns_as_long_as_a_stage_of_its_encoder_does(model: DualEncoder) -> None:
    assert named(model, "image_projection.classifier.*") <= learning(model, frozen_stages=STAGES - 1)


def test_more_frozen_than_there_is_is_refused_with_what_there_is(model: DualEncoder) -> None:
    with pytest.raises(ConfigError, match="frozen_stages is 8: the image_encoder has 7 stages; give 7"):
        freeze(model, TrainConfig(frozen_stages=8))
    with pytest.raises(ConfigError, match="frozen_layers is 4: the text_encoder has 3 layers; give 3"):
        freeze(model, TrainConfig(frozen_layers=4))


def test_a_pattern_that_freezes_nothing_is_refused_with_a_name_there_is(model: DualEncoder) -> None:
    with pytest.raises(ConfigError, match=r"freeze holds 'image_encodr\.\*', .*a name is like 'logit_scale'"):
        freeze(model, TrainConfig(freeze=("logit_scale", "image_encodr.*")))


def test_freezing_everything_is_refused(model: DualEncoder) -> None:
    config = TrainConfig(freeze=("*",))
    with pytest.raises(ConfigError, match="nothing learns: everything is frozen; drop a pattern of freeze"):
        make_optimizer(freeze(model, config), config, {})


def test_statistics_that_learn_above_frozen_stages_are_refused(model: DualEncoder) -> None:
    with pytest.raises(ConfigError, match=r"batch_norm is 'train' with frozen stages.*use batch_norm=frozen"):
        freeze(model, TrainConfig(batch_norm="train", frozen_stages=1))


# --- the schedule ----------------------------------------------------------------------------------------------------


def test_rates_rise_in_a_line_and_fall_in_half_a_cosine() -> None:
    factors = [schedule(step, 10, 0.2) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[2:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)])
    assert factors[6] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.05, "the last step still moves"
    assert schedule(10, 10, 0.2) == pytest.approx(0)


def test_runs_of_one_step_and_without_a_warm_up_have_a_rate() -> None:
    assert schedule(0, 1, 0.05) == 1.0
    assert schedule(0, 100, 0.0) == 1.0
    assert all(0 < schedule(step, 3, 0.9) <= 1 for step in range(3))


def test_a_constant_schedule_stays_at_its_peak() -> None:
    assert [schedule(step, 8, 0.25, cosine=False) for step in range(8)] == [0.5, *[1.0] * 7]


def test_a_plateau_is_what_torch_does_with_a_patience_of_one() -> None:
    scores = [1.0, 2.0, 2.0, 1.5, 1.0, 3.0, 2.9, 3.1, 3.1, 3.0, 2.0, 2.0, 2.0]
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.8, patience=1, threshold=0)
    assert plateau([]) == 1.0
    for count, score in enumerate(scores, start=1):
        optimizer.step()
        theirs.step(score)
        assert plateau(scores[:count]) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert plateau(scores) < 0.8


# --- averaged weights ------------------------------------------------------------------------------------------------


def moved(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_averaged_weights_are_the_moving_average_of_those_that_learn(model: DualEncoder) -> None:
    network = copy.deepcopy(model)
    freeze(network, TrainConfig(frozen_stages=2)).apply()
    averaged = AveragedWeights(network, decay=0.3)
    expected = {name: parameter.detach().double() for name, parameter in network.named_parameters()}
    for step in range(1, 9):
        moved(network, step)
        averaged.update(network, step)
        decay = min(0.3, (1 + step) / (10 + step))
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                expected[name] = decay * expected[name] + (1 - decay) * parameter.detach().double()
    assert (1 + 1) / (10 + 1) < 0.3 < (1 + 8) / (10 + 8), "both the growing and the final decay were seen"
    for name, value in expected.items():
        torch.testing.assert_close(averaged.weights[name].double(), value, rtol=1e-6, atol=1e-6)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_averaged_weights_are_swapped_in_for_a_while_and_nothing_is_lost(model: DualEncoder) -> None:
    network = copy.deepcopy(model)
    averaged = AveragedWeights(network, decay=0.9)
    moved(network, 1)
    averaged.update(network, 1)
    own, mean, places = weights(network), dict(averaged.weights), [id(p) for p in network.parameters()]
    mean = {name: value.clone() for name, value in mean.items()}
    for error in (None, KeyboardInterrupt):
        try:
            with averaged.swap_in(network):
                assert all(torch.equal(p, mean[name]) for name, p in network.named_parameters())
                assert not torch.equal(network.logit_scale, own["logit_scale"])
                if error:
                    raise error
        except KeyboardInterrupt:
            pass
        assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())
        assert all(torch.equal(value, mean[name]) for name, value in averaged.weights.items())
        assert [id(p) for p in network.parameters()] == places, "an optimiser still holds them"


def test_the_average_does_not_share_memory_with_the_weights(model: DualEncoder) -> None:
    network = copy.deepcopy(model)
    averaged = AveragedWeights(network, decay=0.5)
    with averaged.swap_in(network):
        pass
    before = {name: value.clone() for name, value in averaged.weights.items()}
    moved(network, 1)
    assert all(torch.equal(value, before[name]) for name, value in averaged.weights.items())
