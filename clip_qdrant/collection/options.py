"""How a collection is opened and, if it is not there yet, created; checks of what its methods are given."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TypeVar

from clip_qdrant.errors import ConfigError, QueryError, shorten

__all__ = ["CollectionOptions", "is_number", "list_of"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CollectionOptions:
    """See `ImageCollection`, which takes them one by one. Raises ConfigError for values that there cannot be."""

    patience: float = 2.0  # seconds
    shard_number: int | None = None
    replication_factor: int | None = None
    stopped: Callable[[], bool] = lambda: False
    indexes: tuple[str, ...] = ()  # fields

    def __post_init__(self) -> None:
        if not (is_number(self.patience) and 0 <= self.patience < math.inf):
            raise ConfigError(f"patience must be a finite number of seconds, 0 or more, not {self.patience!r}")
        for option, number in self.spread().items():
            if number < 1:
                raise ConfigError(f"{option} must be at least 1, not {number}")

    def spread(self) -> dict[str, int]:
        """How a collection is spread over a cluster, as far as it is said: arguments of `create_collection`."""
        options = {"shard_number": self.shard_number, "replication_factor": self.replication_factor}
        return {name: number for name, number in options.items() if number is not None}


def is_number(value: object) -> bool:
    """Whether a value is a real number and no bool; a numpy scalar is as good as a float."""
    return isinstance(value, Real) and not isinstance(value, bool)


def list_of(name: str, items: Iterable[_T]) -> list[_T]:
    """An argument that takes several, as a list; QueryError naming it for a single text, path or other thing."""
    if isinstance(items, str | bytes | os.PathLike | Mapping) or not isinstance(items, Iterable):
        raise QueryError(f"{name} takes a list, not a single {type(items).__name__}: [{shorten(repr(items), 80)}]")
    return list(items)
