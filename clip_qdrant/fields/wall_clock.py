"""The wall clock of datetimes: what a clock showed where a moment was taken, stored beside the moment.

Qdrant's datetime index compares moments, and takes a value without a zone as one of UTC. But a person who asks for
the photos of 2024 means New Year's Eve at 23:30 in New York too, which is 2025 in UTC. So each datetime of an image is
stored a second time without its zone, below `local_time`, and what a filter says without a zone is compared with that:

    {"taken_at": "2024-12-31T23:30:00-05:00", "metadata": {"sent": "2025-01-02T09:00:00+01:00"},
     "local_time": {"taken_at": "2024-12-31T23:30:00", "metadata": {"sent": "2025-01-02T09:00:00"}}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clip_qdrant.fields.dates import parse_datetime
from clip_qdrant.fields.names import split_path

__all__ = ["WALL_CLOCK", "read_wall_clocks", "wall_clock_key"]

WALL_CLOCK = "local_time"  # the payload key
_IN_UTC = ("ingested_at",)  # written by this package, and in no other zone


def wall_clock_key(key: str) -> str:
    """The payload key of what a clock showed at the moment that is stored at the payload key `key`."""
    return key if key in _IN_UTC else f"{WALL_CLOCK}.{key}"


def read_wall_clocks(payload: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """What clocks showed at the moments that a payload has at these payload keys, nested as they are there."""
    found: dict[str, Any] = {}
    for key in keys:
        *above, last = split_path(key)
        value: Any = payload
        for part in (*above, last):
            value = value.get(part) if isinstance(value, Mapping) else None
        shown = _drop_zones(value)
        if shown in (None, []):
            continue
        group = found
        for part in above:
            group = group.setdefault(part, {})
        group[last] = shown
    return found


def _drop_zones(value: Any) -> Any:
    if isinstance(value, list):
        return [shown for each in value if (shown := _drop_zones(each)) is not None]
    moment = parse_datetime(value) if isinstance(value, str) else None
    return None if moment is None else moment.replace(tzinfo=None).isoformat()
