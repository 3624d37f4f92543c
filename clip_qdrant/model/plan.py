"""The network that a file describes, looked at before memory is taken for it: built on torch's meta device.

A configuration is a few words that may ask for any amount of memory. Its plan has the names and shapes of all tensors
and no contents, so that it can be compared with the weights that are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from clip_qdrant.errors import ConfigError

__all__ = ["build_plan", "check_attention"]

_ATTENTION = (None, "eager", "sdpa")


def build_plan(build: Callable[[], nn.Module], most: int) -> nn.Module:
    """What `build` makes, on the meta device. Raises ConfigError as soon as it has more than `most` parameters."""
    count, own = 0, threading.get_ident()

    def limit(_module: nn.Module, _name: str, _parameter: nn.Parameter | None) -> None:
        nonlocal count
        if threading.get_ident() == own:  # the hook is one of the whole process
            count += 1
            if count > 2 * most:  # some are made twice: replaced, or dropped again
                raise ConfigError(f"it has more than the {most} tensors that there are weights for")

    hook = register_module_parameter_registration_hook(limit)
    try:
        with torch.device("meta"):
            return build()
    finally:
        hook.remove()


def check_attention(config: Any) -> None:
    """Raises ConfigError unless the attention is torch's own: another name may be code to be downloaded and run."""
    if not isinstance(config, Mapping):
        return
    for name, value in config.items():
        if str(name).strip("_").startswith("attn_implementation"):
            for each in value.values() if isinstance(value, Mapping) else [value]:
                if each not in _ATTENTION and not isinstance(each, bool):
                    raise ConfigError(f"its configuration asks for {name}={each!r}: eager and sdpa are possible")
        check_attention(value)
