"""Which parts of a point are read: its payload, its vectors."""

from __future__ import annotations

from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import UnsupportedByEdge

__all__ = ["to_with_payload", "to_with_vector"]


def to_with_payload(choice: object) -> Any:
    """Which payload fields to read: bool, list of names or a selector."""
    match choice:
        case None:
            return False
        case bool():
            return choice
        case list() | tuple():
            return list(choice)
        case models.PayloadSelectorInclude():
            return engine.PayloadSelector.Include(choice.include)
        case models.PayloadSelectorExclude():
            return engine.PayloadSelector.Exclude(choice.exclude)
    raise UnsupportedByEdge(f"with_payload of type {type(choice).__name__}")


def to_with_vector(choice: object) -> bool:
    """Whether to read the vector. Only the unnamed one can be asked for."""
    if choice is None or isinstance(choice, bool):
        return bool(choice)
    if choice in ([""], ("",)):
        return True
    raise UnsupportedByEdge(f"named vectors (with_vectors={choice!r})")
