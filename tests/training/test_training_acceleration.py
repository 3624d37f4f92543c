"""The faster path computes what the plain one does, forwards and backwards, and leaves no trace in the network."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, ScaledStdConv2d
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from clip_qdrant.errors import ConfigError
from clip_qdrant.model.dual_encoder import ImageEncoder
from clip_qdrant_training.network.acceleration import accelerate, autocast, choose_precision


class Plain(nn.Module):
    """Convolutions with and without a bias, each followed by a norm, with one around both, as in torch's ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, affine=False)
        self.conv3, self.bn3 = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), nn.BatchNorm2d(8)

    def forward(self, maps: Tensor) -> Tensor:
        maps = F.relu(self.bn1(self.conv1(maps)))
        maps = F.relu(maps + self.bn2(self.conv2(maps)))
        return self.bn3(self.conv3(maps)).mean((2, 3))


class Same(nn.Module):
    """TensorFlow's padding, and norms that carry their activation, as in the EfficientNets that came from there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv2dSame(3, 8, 3, stride=2, bias=False), BatchNormAct2d(8, act_layer=nn.SiLU)
        self.conv2, self.bn2 = Conv2dSame(8, 8, 5, stride=2, groups=8), BatchNormAct2d(8, apply_act=False)

    def forward(self, maps: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(maps)))).mean((2, 3))


class NormFirst(nn.Module):
    """Norms before their convolutions, as in ResNetV2: every second one has a convolution of its own before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(8))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(8))

    def forward(self, maps: Tensor) -> Tensor:
        maps = F.relu(self.stem(maps))
        for first in range(0, 8, 2):
            inner = self.convs[first](F.relu(self.norms[first](maps)))
            maps = maps + self.convs[first + 1](F.relu(self.norms[first + 1](inner)))
        return maps.mean((2, 3))


class Unusual(nn.Module):
    """Convolutions that do more than to convolve, and one whose padding is no zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = ScaledStdConv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    def forward(self, maps: Tensor) -> Tensor:
        maps = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps))))))
        return self.bn3(self.conv3(maps)).mean((2, 3))


class UsedTwice(nn.Module):
    """Another than the norm sees the convolution's output, and no module shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv(maps)
        return (self.bn(maps) + maps.square()).mean((2, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int | None]] = {  # and how many norms are folded, if not all
    "torch's way": (Plain, None),
    "tensorflow's padding": (Same, None),
    "norm before convolution": (NormFirst, 4),
    "unusual convolutions": (Unusual, 1),
    "test_efficientnet": (lambda: ImageEncoder("test_efficientnet"), None),
    "test_resnet": (lambda: ImageEncoder("test_resnet"), None),
    "tf_mobilenetv3_small_minimal_100": (lambda: ImageEncoder("tf_mobilenetv3_small_minimal_100"), None),
    "test_byobnet": (lambda: ImageEncoder("test_byobnet"), None),
    "test_vit": (lambda: ImageEncoder("test_vit"), 0),
}


def network(name: str) -> nn.Module:
    """With statistics and affine parameters as if trained, in training mode but for its norms."""
    torch.manual_seed(0)
    made = NETWORKS[name][0]() if name in NETWORKS else UsedTwice()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
    made.train()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return made


def example(encoder: nn.Module, seed: int = 0) -> Tensor:
    size = 160 if hasattr(getattr(encoder, "model", None), "patch_embed") else 32
    maps = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return maps.contiguous(memory_format=torch.channels_last)


def computed(encoder: nn.Module, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of something of it with respect to each parameter."""
    encoder.zero_grad()
    output = encoder(image)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(7))
    (output * weights).sum().backward()
    return output.detach(), {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}


def traces(encoder: nn.Module) -> list[str]:
    return [name for name, module in encoder.named_modules() if "forward" in vars(module)]


def folded(encoder: nn.Module) -> int:
    """How many norms do nothing to their input any more but activate it."""
    return sum(1 for module in encoder.modules() if isinstance(module, nn.BatchNorm2d) and "forward" in vars(module))


def assert_close(found: Tensor, expected: Tensor) -> None:
    found, expected = found.detach(), expected.detach()
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max()) + 1e-7


@pytest.mark.parametrize("name", NETWORKS)
def test_the_faster_path_has_the_same_outputs_and_gradients(name: str, caplog: pytest.LogCaptureFixture) -> None:
    encoder = network(name)
    output, gradients = computed(encoder, example(encoder, 3))
    with accelerate(encoder, example(encoder), fold=True):
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
        assert folded(encoder) == (norms if NETWORKS[name][1] is None else NETWORKS[name][1])
        faster, same = computed(encoder, example(encoder, 3))
    assert_close(faster, output)
    assert same.keys() == gradients.keys() == {n for n, p in encoder.named_parameters() if p.requires_grad}
    for parameter, gradient in gradients.items():
        assert_close(same[parameter], gradient)
    assert not caplog.records


def test_the_faster_path_follows_the_weights_as_they_learn() -> None:
    encoder = network("torch's way")
    with accelerate(encoder, example(encoder), fold=True):
        optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
        for _ in range(2):
            computed(encoder, example(encoder))
            optimizer.step()
        faster = encoder(example(encoder, 3))
    assert_close(faster, encoder(example(encoder, 3)))
    assert not torch.allclose(faster, network("torch's way")(example(encoder, 3)), atol=1e-2)


def test_a_frozen_convolution_still_lets_its_norm_learn() -> None:
    encoder = network("torch's way")
    encoder.get_submodule("conv1").requires_grad_(False)
    _, gradients = computed(encoder, example(encoder))
    with accelerate(encoder, example(encoder), fold=True):
        _, same = computed(encoder, example(encoder))
    assert same.keys() == gradients.keys()
    assert "bn1.weight" in same and "conv1.weight" not in same
    for parameter, gradient in gradients.items():
        assert_close(same[parameter], gradient)


def test_norms_that_learn_their_statistics_are_not_folded() -> None:
    encoder = network("torch's way").train()
    expected = copy.deepcopy(encoder)
    before = encoder.get_buffer("bn1.running_mean").clone()
    with accelerate(encoder, example(encoder), fold=False):
        assert folded(encoder) == 0
        assert torch.equal(encoder.get_buffer("bn1.running_mean"), before), "the example leaves no mark"
        encoder(example(encoder, 3))
    expected(example(encoder, 3))
    assert_close(encoder.get_buffer("bn1.running_mean"), expected.get_buffer("bn1.running_mean"))
    assert not torch.equal(encoder.get_buffer("bn1.running_mean"), before)


@pytest.mark.parametrize("name", ["torch's way", "test_efficientnet"])
def test_nothing_of_it_stays(name: str) -> None:
    encoder = network(name)
    modes = [module.training for module in encoder.modules()]
    names, bare = list(encoder.state_dict()), [set(vars(module)) for module in encoder.modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in encoder.modules()]
    values = {name: value.clone() for name, value in encoder.state_dict().items()}
    with accelerate(encoder, example(encoder), fold=True):
        assert traces(encoder)
        assert list(encoder.state_dict()) == names
        assert [module.training for module in encoder.modules()] == modes
    assert [set(vars(module)) for module in encoder.modules()] == bare
    assert [module.training for module in encoder.modules()] == modes
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in encoder.modules()] == hooks
    assert all(torch.equal(values[name], value) for name, value in encoder.state_dict().items())


def test_nothing_of_it_stays_after_an_error_within_or_at_the_start() -> None:
    encoder = network("torch's way")
    output = encoder(example(encoder))
    with pytest.raises(KeyboardInterrupt), accelerate(encoder, example(encoder), fold=True):
        raise KeyboardInterrupt
    assert traces(encoder) == []
    too_narrow = torch.zeros(2, 5, 32, 32)
    with pytest.raises(RuntimeError, match="channels"), accelerate(encoder, too_narrow, fold=True):
        pass
    assert traces(encoder) == []
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in encoder.modules())
    assert torch.equal(encoder(example(encoder)), output)


def test_it_can_be_entered_again() -> None:
    encoder = network("torch's way")
    output = encoder(example(encoder))
    for _ in range(2):
        with accelerate(encoder, example(encoder), fold=True):
            assert folded(encoder) == 3
            assert_close(encoder(example(encoder)), output)


def test_a_network_that_needs_what_would_be_folded_away_is_left_alone_and_that_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = network("used twice")
    output, gradients = computed(encoder, example(encoder))
    with caplog.at_level(logging.WARNING), accelerate(encoder, example(encoder), fold=True):
        assert traces(encoder) == []
        same, as_well = computed(encoder, example(encoder))
    assert "does not train on the faster path" in caplog.text
    assert torch.equal(same, output)
    assert all(torch.equal(as_well[name], gradient) for name, gradient in gradients.items())


def test_depthwise_convolutions_stay_in_float32_under_bfloat16() -> None:
    encoder = network("test_efficientnet")
    seen: dict[str, set[torch.dtype]] = {"depthwise": set(), "pointwise": set()}

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        seen["depthwise" if module.groups == module.in_channels else "pointwise"].add(output.dtype)

    hooks = [m.register_forward_hook(note) for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    plain, gradients = computed(encoder, example(encoder))
    with autocast(torch.bfloat16, "cpu"):
        encoder(example(encoder))
    assert seen["depthwise"] == {torch.float32, torch.bfloat16}, "without acceleration autocast takes them along"
    with accelerate(encoder, example(encoder), fold=True):
        for kinds in seen.values():
            kinds.clear()
        with autocast(torch.bfloat16, "cpu"):
            rounded, rounded_gradients = computed(encoder, example(encoder))
    for hook in hooks:
        hook.remove()
    assert seen == {"depthwise": {torch.float32}, "pointwise": {torch.bfloat16}}
    assert F.cosine_similarity(rounded.float(), plain).min() > 0.99
    flat = [torch.cat([value[name].flatten() for name in gradients]) for value in (gradients, rounded_gradients)]
    assert F.cosine_similarity(flat[0], flat[1], dim=0) > 0.98
    assert all(value.dtype == torch.float32 for value in rounded_gradients.values())


def test_precision_is_what_was_asked_for() -> None:
    assert choose_precision("float32", "cpu") == torch.float32
    assert choose_precision("bfloat16", "cpu") == torch.bfloat16
    assert choose_precision("auto", "mps") == torch.float32
    with pytest.raises(ConfigError, match=r"precision is 'bfloat16': .* use precision=float32"):
        choose_precision("bfloat16", "mps")


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_where_the_cpu_multiplies_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: native)
    assert choose_precision("auto", "cpu") == (torch.bfloat16 if native else torch.float32)


def test_autocast_is_off_for_float32() -> None:
    left, right = torch.randn(4, 4), torch.randn(4, 4)
    with autocast(torch.float32, "cpu"):
        assert (left @ right).dtype == torch.float32
    with autocast(torch.bfloat16, "cpu:0"):
        assert (left @ right).dtype == torch.bfloat16
