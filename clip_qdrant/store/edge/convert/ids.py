"""Point ids."""

from __future__ import annotations

import uuid

from clip_qdrant.errors import InvalidPoint

__all__ = ["from_point_id", "to_point_id"]


def to_point_id(value: object) -> int | uuid.UUID:
    """A point id as the engine takes it. InvalidPoint unless it is an unsigned 64-bit integer or a UUID."""
    if isinstance(value, uuid.UUID):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value
    if isinstance(value, str):
        try:
            return uuid.UUID(value)
        except ValueError:
            pass
    raise InvalidPoint(f"{value!r} is not a point id; give an integer from 0 to 2^64 - 1 or a UUID")


def from_point_id(value: object) -> int | str:
    return value if isinstance(value, int) else str(value)
