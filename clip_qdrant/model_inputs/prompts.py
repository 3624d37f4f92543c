"""Prompts: sentences that a model wants around the short texts that people search with, such as "a photo of a {}."."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clip_qdrant.errors import ConfigError

__all__ = ["Prompts", "read_prompts"]

_PLACE = "{}"


@dataclass(frozen=True, slots=True)
class Prompts:
    """`templates` hold the text at `{}`, each once. A text of more than `longest` words is taken as it is.

    They change how a query is written and no vector that is stored, so they are no part of the fingerprint.
    """

    templates: tuple[str, ...]
    longest: int | None = None  # words

    def __post_init__(self) -> None:
        for template in self.templates:
            if not isinstance(template, str) or template.count(_PLACE) != 1:
                raise ConfigError(f"the prompt {template!r} must be a text with {_PLACE} in one place")
        if not self.templates:
            raise ConfigError("there are no prompts: give one at least, or no Prompts")
        if self.longest is not None and (not isinstance(self.longest, int) or self.longest < 1):
            raise ConfigError(f"longest is a number of words, at least 1, not {self.longest!r}")

    def wrap(self, text: str) -> list[str]:
        """The texts whose mean stands for this one."""
        if self.longest is not None and len(text.split()) > self.longest:
            return [text]
        return [template.replace(_PLACE, text) for template in self.templates]

    def to_dict(self) -> dict[str, Any]:
        return {"templates": list(self.templates), "longest": self.longest}

    @classmethod
    def from_dict(cls, said: Mapping[str, Any] | None) -> Prompts | None:
        return None if not said else cls(tuple(said["templates"]), said.get("longest"))


def read_prompts(embedder: object) -> Prompts | None:
    """The prompts of an embedder, which need not have any."""
    prompts = getattr(embedder, "prompts", None)
    return prompts if isinstance(prompts, Prompts) else None
