"""What other programs put around a state dict: containers, prefixes of wrapped modules, and more than the weights.

    {"epoch": 3, "state_dict": {"model._orig_mod.image_encoder.…": …, "criterion.temperature": …}}

Lightning saves `state_dict` with `model.` before each name, torch.compile puts `_orig_mod.` in, DataParallel `module.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["open_containers", "unwrap_weights"]

# In this order: averaged weights only where there are no others.
_CONTAINERS = (
    *(
        "state_dict",
        "model_state_dict",
        "model_state",
        "model",
        "net",
        "network",
        "state",
        "weights",
        "module",
        "params",
    ),
    *("state_dict_ema", "model_ema", "ema"),
)
_WRAPPERS = {"module", "_orig_mod"}  # parts of names that no module of a network has
_DEEPEST = 5


def open_containers(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the innermost container in a file holds; the content itself where there is none."""
    for _ in range(_DEEPEST):
        inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def unwrap_weights(content: Mapping[str, Any], known: str) -> tuple[dict[str, Any], list[str]]:
    """The weights in a file, under their own names, and the names of what is left out because no network needs it.

    `known` is the name of a weight that there is in any case: what stands before it stands before all others too. Left
    out are single numbers outside of the network, such as the temperature of a loss, and second copies of its weights,
    such as averages of them. All else that is foreign stays, for the caller to refuse.
    """
    content = open_containers(content)
    names = {".".join(part for part in str(name).split(".") if part not in _WRAPPERS): name for name in content}
    prefixes = sorted((name.removesuffix(known) for name in names if name.endswith(known)), key=len)
    if not prefixes:
        return {name: content[key] for name, key in names.items()}, []
    weights, left_out = {}, []
    for name, key in names.items():
        if name.startswith(prefixes[0]):
            weights[name.removeprefix(prefixes[0])] = content[key]
        elif any(name.startswith(prefix) for prefix in prefixes[1:]) or _is_number(content[key]):
            left_out.append(str(key))
        else:
            weights[str(key)] = content[key]
    return weights, left_out


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)
