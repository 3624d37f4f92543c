"""How fast parameters learn: groups with their rates, the schedule, averaged weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from clip_qdrant.errors import ConfigError
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.network.freezing import Freezing

__all__ = [
    "AveragedWeights",
    "learning_rates",
    "make_optimizer",
    "plateau",
    "schedule",
    "set_learning_rates",
]

_PATIENCE, _FACTOR = 1, 0.8  # of a plateau, in the tutorial lineage


def make_optimizer(freezing: Freezing, config: TrainConfig, more: Mapping[str, nn.Parameter]) -> torch.optim.AdamW:
    """AdamW over all that learns: heads, image and text encoder at their own rates; no decay for norms, biases and
    scalars. `more` learns like the heads.

    Each group has its `name` and its `peak` rate.
    """
    groups: dict[tuple[str, float, float], list[Tensor]] = {}
    rates = config.peak_rates()
    named = freezing.network.model.named_parameters()
    learning = [(name, p) for name, p in named if freezing.learns(name)]
    for name, parameter in [*learning, *more.items()]:
        place = None if name in more else freezing.place(name)
        part = place.part if place else "heads"
        decays = config.weight_decay if part == "heads" else config.encoder_weight_decay
        decay = (config.weight_decay if decays is None else decays) if parameter.ndim > 1 else 0.0
        groups.setdefault((part, rates[part], decay), []).append(parameter)
    if not groups:
        raise ConfigError("nothing learns: everything is frozen; drop a pattern of freeze")
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay, "name": part}
            for (part, rate, decay), parameters in groups.items()
        ]
    )


def schedule(step: int, steps: int, warmup: float, *, cosine: bool = True) -> float:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017) or 1: a factor from 0 to 1."""
    warm = int(steps * warmup)
    if step < warm:
        return (step + 1) / warm
    if not cosine:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def plateau(scores: Sequence[float]) -> float:
    """The factor of the rates after epochs with these scores: it falls to 0.8 of itself whenever two epochs in a row
    were no better than the best before them, as torch's ReduceLROnPlateau does with the lineage's patience of 1. Higher
    scores are better."""
    factor, best, waited = 1.0, -math.inf, 0
    for score in scores:
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited > _PATIENCE:
            factor, waited = factor * _FACTOR, 0
    return factor


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Each group at `factor` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The highest rate of each part: heads, image, text."""
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        rates[group["name"]] = max(rates.get(group["name"], 0.0), float(group["lr"]))
    return rates


class AveragedWeights:
    """Exponential moving average of all parameters that learn (Polyak and Juditsky 1992).

    The decay grows to its final value over the first steps, so that the start is forgotten soon: min(decay, (1 + t) /
    (10 + t)), as in Inception's training (Szegedy et al. 2016).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After optimiser step number `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                self.weights[name].lerp_(parameter.detach(), 1 - decay)

    @contextlib.contextmanager
    def swap_in(self, model: nn.Module) -> Iterator[None]:
        """Within the block the model has the averaged weights."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name] = kept
