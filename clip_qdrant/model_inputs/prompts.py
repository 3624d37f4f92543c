"""Prompts: how a model wants the texts that people search with.

Sentences stand around short ones, such as "a photo of a {}.", and a bias is taken from the vectors of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clip_qdrant.errors import ConfigError

__all__ = ["Prompts", "read_bias", "read_prompts"]

_PLACE = "{}"


@dataclass(frozen=True, slots=True)
class Prompts:
    """`templates` hold the text at `{}`, each once. A text of more than `longest` words is taken as it is.

    `bias` (dim,), where there is one, is taken from the unit vector of each text: some images are near to texts of
    every kind, and nearest to what no image shows.

    They change how a query is written and no vector that is stored, so they are no part of the fingerprint.
    """

    templates: tuple[str, ...]
    longest: int | None = None  # words
    bias: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for template in self.templates:
            if not isinstance(template, str) or template.count(_PLACE) != 1:
                raise ConfigError(f"the prompt {template!r} must be a text with {_PLACE} in one place")
        if not self.templates:
            raise ConfigError("there are no prompts: give one at least, or no Prompts")
        if self.longest is not None and (not isinstance(self.longest, int) or self.longest < 1):
            raise ConfigError(f"longest is a number of words, at least 1, not {self.longest!r}")
        if self.bias and not 0 < math.hypot(*self.bias) < 1:
            raise ConfigError(f"the bias of prompts has length {math.hypot(*self.bias)}: it must be between 0 and 1")

    def wrap(self, text: str) -> list[str]:
        """The texts whose mean stands for this one."""
        if self.longest is not None and len(text.split()) > self.longest:
            return [text]
        return [template.replace(_PLACE, text) for template in self.templates]

    def to_dict(self) -> dict[str, Any]:
        return {"templates": list(self.templates), "longest": self.longest, "bias": list(self.bias)}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any] | None) -> Prompts | None:
        if not said:
            return None
        return cls(tuple(said["templates"]), said.get("longest"), tuple(map(float, said.get("bias", ()))))


def read_prompts(embedder: object) -> Prompts | None:
    """The prompts of an embedder, which need not have any."""
    prompts = getattr(embedder, "prompts", None)
    return prompts if isinstance(prompts, Prompts) else None


def read_bias(embedder: object) -> np.ndarray:
    """What is taken from the vector of each text that an embedder's collections are searched with, float64 (dim,), or
    one zero."""
    prompts = read_prompts(embedder)
    return np.array(prompts.bias if prompts is not None and prompts.bias else (0.0,))
