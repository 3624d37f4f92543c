"""What a training run tells while it goes on: frozen records for everything that watches it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

__all__ = ["EpochReport", "Mix", "RunStart", "StepReport", "Watcher", "as_row"]


@dataclass(frozen=True)
class RunStart:
    """What is about to be trained; `config` in JSON types, `step` the steps that a resumed run has behind it."""

    epochs: int
    steps: int
    step: int
    pairs: int
    captions: int
    trainable: int  # parameters that learn
    parameters: int
    config: Mapping[str, Any]


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did. `step` counts from 1 over the whole run.

    `lr` is the learning rate of each group of parameters, `waited` the share of the step's time that it waited for
    data, `seconds` the time of the step.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    lr: Mapping[str, float]
    logit_scale: float  # the factor itself, not its log
    grad_norm: float  # before clipping
    images_per_second: float
    waited: float
    seconds: float


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did; `metrics` are the recalls on the validation pairs, empty without any.

    Epoch 0 is the start before the first step, judged on the validation pairs; it has neither loss nor speed (NaN).
    """

    epoch: int
    epochs: int
    loss: float
    images_per_second: float
    seconds: float
    best: bool
    waited: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mix:
    """`share` of the weights in the end and the rest of those at the start, and its recalls on the validation pairs."""

    share: float
    metrics: Mapping[str, float]


class Watcher(Protocol):
    """Follows a run. Methods are called in the process that trains, in order, on the main process only."""

    def started(self, run: RunStart) -> None:
        """Before the first step."""

    def stepped(self, report: StepReport) -> None:
        """After each step."""

    def epoch_ended(self, report: EpochReport) -> None:
        """After each epoch and its validation, and after that of the start (epoch 0)."""

    def ended(self) -> None:
        """After the last epoch, or when the run stops early or by an error."""


def as_row(report: RunStart | StepReport | EpochReport) -> dict[str, Any]:
    """The fields of a report in JSON types, with null for an infinity or NaN: JSON has neither."""
    return {item.name: _finite(getattr(report, item.name)) for item in fields(report)}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
