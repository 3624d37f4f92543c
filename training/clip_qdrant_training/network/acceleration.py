"""The same network, computed faster while it trains on a CPU. Parameters, their names and results stay the same.

- BatchNorm with frozen statistics is an affine map of the convolution before it, so it goes into that convolution's
  weights anew in each step: no pass over the activations, none kept for the backward pass. Gradients reach the
  convolution's weights and the norm's own parameters as before.
- Under bfloat16 autocast depthwise convolutions stay in float32: oneDNN's bfloat16 gradient of them takes two to four
  times as long as its float32 one (docs/decisions/0004-training-on-cpus.md).
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from torch import Tensor, nn

from clip_qdrant.errors import ConfigError

logger = logging.getLogger(__name__)

__all__ = ["accelerate", "autocast", "choose_precision"]


def choose_precision(asked: str, device: str) -> torch.dtype:
    """What "auto" stands for: bfloat16 where the hardware multiplies it natively, float32 elsewhere."""
    kind = device.partition(":")[0]
    if asked == "bfloat16":
        if kind == "mps":
            raise ConfigError("precision is 'bfloat16': autocast on mps trains in float32 here; use precision=float32")
        return torch.bfloat16
    if asked == "auto" and _has_native_bfloat16(kind):
        return torch.bfloat16
    return torch.float32


def _has_native_bfloat16(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu: Any = torch.cpu  # its tests are not in torch's type stubs
    return kind == "cpu" and bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def autocast(precision: torch.dtype, device: str) -> torch.autocast:
    """torch's autocast to that precision; does nothing for float32."""
    return torch.autocast(
        device.partition(":")[0], torch.bfloat16, enabled=precision == torch.bfloat16, cache_enabled=False
    )


@contextlib.contextmanager
def accelerate(encoder: nn.Module, example: Tensor, *, fold: bool) -> Iterator[None]:
    """Within the block `encoder` runs the faster way; `example` is a normalised input that shows which norm follows
    which convolution. `fold` needs BatchNorm statistics that stay frozen within the block."""
    patched: list[nn.Module] = []

    def patch(module: nn.Module, forward: Callable[..., Tensor]) -> None:
        patched.append(module)
        object.__setattr__(module, "forward", forward)

    def restore() -> None:
        for module in patched:
            module.__dict__.pop("forward", None)
        patched.clear()

    try:
        if example.device.type == "cpu":
            expected = _output(encoder, example)
            for conv, norm in _conv_norm_pairs(encoder, example) if fold else []:
                patch(conv, functools.partial(_run_folded, conv, norm))
                patch(norm, functools.partial(_run_activation, norm))
            for module in encoder.modules():
                if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                    patch(module, functools.partial(_run_in_float32, module.forward))
            if not torch.allclose(
                _output(encoder, example), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
            ):
                logger.warning("this image encoder does not train on the faster path: it computes something else there")
                restore()
        yield
    finally:
        restore()


def _output(encoder: nn.Module, example: Tensor) -> Tensor:
    training = [module for module in encoder.modules() if module.training]  # frozen norms among them are not
    encoder.eval()
    try:
        with torch.no_grad():
            output: Tensor = encoder(example)
    finally:
        for module in training:
            module.training = True
    return output


def _conv_norm_pairs(encoder: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions whose output goes into one BatchNorm and nowhere else that a module could see."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    users: dict[int, list[nn.Module]] = {}
    hooks = []

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and id(inputs[0]) in made:  # alive, so that its id is its own
            users.setdefault(id(inputs[0]), []).append(module)

    def after(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, nn.Conv2d) and _is_plain(module) and isinstance(output, Tensor):
            made[id(output)] = (module, output)

    for module in encoder.modules():
        hooks.append(module.register_forward_hook(after))
        kinds = (nn.BatchNorm2d, nn.Conv2d, nn.Linear, nn.LayerNorm)
        if isinstance(module, kinds):
            hooks.append(module.register_forward_pre_hook(before))
    try:
        _output(encoder, example)
    finally:
        for hook in hooks:
            hook.remove()
    pairs = []
    for key, (conv, _) in made.items():
        [user, *others] = users.get(key, [None])
        if isinstance(user, nn.BatchNorm2d) and not others and user.track_running_stats:
            pairs.append((conv, user))
    return pairs


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether it does what `_convolve` does: some classes standardise or mix their weights first."""
    return type(conv).forward in (nn.Conv2d.forward, Conv2dSame.forward) and conv.padding_mode == "zeros"


def _run_folded(conv: nn.Conv2d, norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    bias = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias
    return _convolve(conv, maps, conv.weight * scale[:, None, None, None], bias)


def _convolve(conv: nn.Conv2d, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if isinstance(conv, Conv2dSame):
        convolve: Any = conv2d_same
    else:
        convolve = F.conv2d
    out: Tensor = convolve(maps, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    return out


def _run_activation(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """What is left of a norm that is folded: timm's carries its activation."""
    for name in ("drop", "act"):
        maps = getattr(norm, name, nn.Identity())(maps)
    return maps


def _run_in_float32(forward: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    with torch.autocast(maps.device.type, enabled=False):
        return forward(maps.float())
