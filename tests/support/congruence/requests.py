"""A request: a method of QdrantBase with its arguments, given by position or by name, as models or as dicts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

if TYPE_CHECKING:
    from congruence.layouts import Layout

__all__ = ["Request", "Scene", "to_plain"]


@dataclass(frozen=True)
class Scene:
    """What requests may be about: vectors and ids of the collection, and another one to look things up in."""

    layout: Layout
    ids: list[Any]
    other: str
    other_ids: list[Any]

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.layout.vectors]


@dataclass(frozen=True)
class Request:
    """One call. `compare` names how answers are compared (compare.py); `tolerance` is that of scores, as a share."""

    kind: str
    method: str
    options: Mapping[str, Any]
    compare: str
    tolerance: float = 1e-5
    positional: int = 0
    as_dicts: bool = False

    @classmethod
    def random(
        cls, random: Random, kind: str, method: str, compare: str, *, tolerance: float = 1e-5, **options: Any
    ) -> Request:
        """The call in one of the ways in which it may be written."""
        names = _parameters(method)
        some = random.randint(0, min(4, len(names))) if random.random() < 0.4 else 0
        return cls(kind, method, options, compare, tolerance, some, as_dicts=random.random() < 0.15)

    def __str__(self) -> str:
        return f"{self.method}({', '.join(f'{name}={to_plain(value)!r}' for name, value in self.options.items())})"

    def send(self, client: QdrantBase, collection: str, *, dicts: bool = True) -> Any:
        """The answer of a client. Local mode takes models only, so dicts can be left out."""
        options = dict(self.options)
        if self.as_dicts and dicts:
            options = {name: to_plain(value) for name, value in options.items()}
        given = []
        for name, default in _parameters(self.method)[: self.positional]:
            given.append(options.pop(name, default))
        return getattr(client, self.method)(collection, *given, **options)


@cache
def _parameters(method: str) -> list[tuple[str, Any]]:
    """Names and defaults of what follows the name of the collection."""
    named = list(inspect.signature(getattr(QdrantClient, method)).parameters.values())[2:]
    return [(one.name, one.default) for one in named if one.kind is not one.VAR_KEYWORD]


def to_plain(value: Any) -> Any:
    """Models as the dicts that one would write in their place."""
    if isinstance(value, BaseModel):
        return {name: to_plain(part) for name, part in value.model_dump(by_alias=True, exclude_unset=True).items()}
    if isinstance(value, list):
        return [to_plain(one) for one in value]
    return {name: to_plain(part) for name, part in value.items()} if isinstance(value, dict) else value
