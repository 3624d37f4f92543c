"""Low-rank adapters (LoRA, Hu et al. 2021): in place of a weight W, two thin matrices learn, and W + scale * up @ down
is what counts. At the end that sum is the weight: the result is an ordinary checkpoint.

An adapter is two more parameters of the module whose weight it is for: `lora_down` (rank, in), and `lora_up`
(out, rank), which starts at zero. The module changes its class and keeps its weights and their names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "adapted_weights",
    "add_adapters",
    "is_adapter",
    "load_merged",
    "merge_adapters",
    "remove_unused_adapters",
]

_DOWN, _UP = ".lora_down", ".lora_up"
_WEIGHTS = ("weight", "in_proj_weight")  # of a linear layer, and of an attention layer that has all three in one


def add_adapters(model: nn.Module, wanted: Callable[[str], bool], rank: int, scale: float) -> None:
    """Adapters for the linear layers and attention layers whose weights' names are `wanted`."""
    for path, module in list(model.named_modules()):
        if type(module).forward is nn.Linear.forward and wanted(f"{path}.weight"):
            _adapt(module, _LowRankLinear, module.in_features, module.out_features, rank, scale)
        elif _is_plain_attention(module) and wanted(f"{path}.in_proj_weight"):
            _adapt(module, _LowRankAttention, module.embed_dim, 3 * module.embed_dim, rank, scale)


def remove_unused_adapters(model: nn.Module, used: frozenset[int]) -> list[str]:
    """Removes the adapters that no row depends on: some networks use the weight of a layer and never call the layer.
    Returns the paths of those that stay."""
    kept = []
    for path, module in model.named_modules():
        if isinstance(module, _LowRankLinear | _LowRankAttention):
            if id(module.lora_down) in used:
                kept.append(path)
            else:
                del module.lora_down, module.lora_up
                object.__setattr__(module, "__class__", module.plain)
    return kept


@torch.no_grad()
def load_merged(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads weights that adapters have been merged into: those that the network has add nothing then."""
    adapters = {name: value.clone() for name, value in model.state_dict().items() if is_adapter(name)}
    for name, value in adapters.items():
        if name.endswith(_UP):
            value.zero_()
    model.load_state_dict({**weights, **adapters})


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is part of an adapter."""
    return name.endswith((_DOWN, _UP))


def adapted_weights(name: str) -> tuple[str, ...]:
    """The names of the weights that an adapter's parameter may be for."""
    path = name.rpartition(".")[0]
    return tuple(f"{path}.{weight}" for weight in _WEIGHTS)


def merge_adapters(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The weights with what adapters have learned, under the names that they had without."""
    merged = {name: value for name, value in weights.items() if not is_adapter(name)}
    for name, down in weights.items():
        if name.endswith(_DOWN):
            [weight] = [each for each in adapted_weights(name) if each in merged]
            up = weights[name.removesuffix(_DOWN) + _UP]
            merged[weight] = merged[weight] + scale * (up @ down)
    return merged


def _adapt(module: Any, kind: type[nn.Module], width: int, height: int, rank: int, scale: float) -> None:
    weight = next(module.parameters())
    down, up = (torch.zeros(shape, device=weight.device) for shape in ((rank, width), (height, rank)))
    nn.init.kaiming_uniform_(down, a=math.sqrt(5))
    module.plain = type(module)
    module.__class__ = kind
    module.lora_down, module.lora_up, module.lora_scale = nn.Parameter(down), nn.Parameter(up), scale


class _LowRankLinear(nn.Linear):
    lora_down: nn.Parameter
    lora_up: nn.Parameter
    lora_scale: float
    plain: type[nn.Module]

    def forward(self, values: Tensor) -> Tensor:
        learned = F.linear(F.linear(values, self.lora_down), self.lora_up)
        return F.linear(values, self.weight, self.bias) + self.lora_scale * learned


class _LowRankAttention(nn.MultiheadAttention):
    """torch's attention layer with an adapter for queries, keys and values. Its output projection has one of its own,
    being a linear layer, which torch itself would not call."""

    lora_down: nn.Parameter
    lora_up: nn.Parameter
    lora_scale: float
    plain: type[nn.Module]

    def forward(  # type: ignore[override]  # what networks that embed images and texts ask for
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,  # noqa: ARG002  # whoever calls it with True has no use for them either
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        if not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        inputs = (query, key, value)
        queries, keys, values = (self._project(each, part) for part, each in enumerate(inputs))
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = ~attn_mask  # what is left out here is what is taken there
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.view(-1, self.num_heads, *attn_mask.shape[1:])
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.to(queries.dtype)
        dropout = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask, dropout_p=dropout)
        rows: Tensor = self.out_proj(found.transpose(1, 2).flatten(2))
        return (rows if self.batch_first else rows.transpose(0, 1)), None

    def _project(self, values: Tensor, part: int) -> Tensor:
        """-> (n, heads, length, width of a head)."""
        assert self.in_proj_weight is not None
        bias = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[part]
        learned = F.linear(F.linear(values, self.lora_down), self.lora_up.chunk(3)[part])
        projected = F.linear(values, self.in_proj_weight.chunk(3)[part], bias) + self.lora_scale * learned
        return projected.view(*projected.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)


def _is_plain_attention(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.MultiheadAttention)
        and type(module).forward is nn.MultiheadAttention.forward
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )
