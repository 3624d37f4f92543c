"""What training needs of a network, whichever kind it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

__all__ = ["EncoderSide", "Network", "ParameterPlace", "Part"]

Part = Literal["image", "text", "heads"]


@dataclass(frozen=True)
class ParameterPlace:
    """Where a parameter is: the part of the network whose learning rate it has, and the layer it is frozen with.

    `layer` counts from 0 in the encoder of `side`; what belongs to no encoder has no side, and is never frozen with
    one.
    """

    part: Part
    side: Literal["image", "text"] | None = None
    layer: int = 0


class EncoderSide(Protocol):
    """One encoder as layers that run one after the other, and a head.

    Layer 0 is the stem: patches or word embeddings. `run(start, stop, …)` runs some of the layers. From 0 it takes what
    the encoder takes: uint8 pixels (n, S, S, 3), or ids and mask (n, length). From further on it takes what it gave
    when it stopped there, and of a text ids and mask behind it.
    """

    @property
    def name(self) -> str: ...  # in messages
    @property
    def depth(self) -> int: ...
    def can_cut(self, layer: int) -> bool: ...  # whether `run` can stop there, and go on from there
    def run(self, start: int, stop: int, *inputs: Tensor) -> Tensor: ...
    def head(self, features: Tensor) -> Tensor: ...  # what `run` gives at `depth` -> (n, dim), not yet of norm 1
    def eval_below(self, layer: int) -> None: ...  # turns off dropout in what is below


class Network(Protocol):
    """A network that learns: its two sides, and where its parameters are.

    `extra` are parameters that the loss needs and the network lacks.
    """

    @property
    def model(self) -> nn.Module: ...
    @property
    def image(self) -> EncoderSide: ...
    @property
    def text(self) -> EncoderSide: ...
    @property
    def logit_scale(self) -> nn.Parameter: ...  # the log of the inverse temperature
    @property
    def logit_bias(self) -> nn.Parameter | None: ...  # of SigLIP
    @property
    def extra(self) -> Mapping[str, nn.Parameter]: ...
    def used(self) -> frozenset[int]: ...  # the ids of the parameters that rows depend on
    def place(self, name: str) -> ParameterPlace | None: ...  # of a parameter; None for one that no row depends on
