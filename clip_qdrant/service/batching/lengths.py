"""Texts of like length together: a batch is padded to its longest text, and the short ones pay for it."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["group_by_length"]

_SHORT = 64  # characters; below it padding costs less than one more call


def group_by_length(texts: Sequence[str]) -> list[list[int]]:
    """Positions of texts, in groups, the shortest first: in a group none is more than twice as long as another."""
    groups: list[list[int]] = []
    most = -1
    for position in sorted(range(len(texts)), key=lambda i: len(texts[i])):
        length = len(texts[position])
        if length > most:
            groups.append([])
            most = max(_SHORT, 2 * length)
        groups[-1].append(position)
    return groups
