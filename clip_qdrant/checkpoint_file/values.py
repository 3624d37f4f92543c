"""Values of a description from a file, bounded before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping

from clip_qdrant.errors import ConfigError

__all__ = ["check_values"]

_MOST_VALUES = 1_000_000


def check_values(*parts: object) -> None:
    """Raises ConfigError unless all are plain values, and few: one list that is in it many times counts as many."""
    left, waiting = _MOST_VALUES, list(parts)
    while waiting:
        value = waiting.pop()
        left -= 1 + (len(value) if isinstance(value, (str, bytes, list, tuple, Mapping)) else 0)
        if left < 0:
            raise ConfigError(f"its description has more than {_MOST_VALUES:,} values")
        if isinstance(value, Mapping):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif not (value is None or type(value) in (str, int, float, bool)):
            kind = "a tensor" if hasattr(value, "shape") else f"a {type(value).__name__}"
            raise ConfigError(f"its description holds {kind}, where texts and numbers belong")
