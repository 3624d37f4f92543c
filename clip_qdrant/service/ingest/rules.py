"""IngestRules: what runs that requests start may do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["IngestRules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRules:
    """Runs take images from `places` alone, at them or below: folders, and beginnings of addresses. None are allowed
    without. `at_once` runs go on at once, each in a collection of its own. `state` is the state file, in memory without
    one, and `location` is where it says the store is.
    """

    places: tuple[str, ...] = ()
    at_once: int = 2
    state: Path | None = None
    location: str = ":memory:"
