"""Names of many files in one text: `shard-{000..099}.tar` counts, `{train,test}` lists."""

from __future__ import annotations

import re
from collections.abc import Iterator

from braceexpand import braceexpand

from clip_qdrant.errors import ConfigError

__all__ = ["expand_braces"]

_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)(\.\.-?\d+)?\}", re.ASCII)
_MOST = 1_000_000  # names that one pair of braces counts


def expand_braces(pattern: str) -> Iterator[str]:
    """The names that a pattern stands for, by the rules of bash; a brace without its partner stands for itself.

    Raises ConfigError for a range that counts downwards or has too many numbers.
    """
    for match in _RANGE.finditer(pattern):
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < _MOST:
            raise ConfigError(
                f"the pattern {pattern!r} counts from {first} to {last}; count upwards, to {_MOST} at most"
            )
    try:
        yield from braceexpand(pattern, escape=False)
    except ValueError:  # its UnbalancedBracesError
        yield pattern
