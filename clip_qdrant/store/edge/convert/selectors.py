"""Which points are meant, and which parts of a point are read: its payload, its vectors."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import qdrant_edge as engine
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest
from clip_qdrant.store.edge.convert.filters import to_filter
from clip_qdrant.store.edge.convert.ids import to_point_id
from clip_qdrant.store.edge.convert.payload_keys import explain_wrong_key

__all__ = ["to_selection", "to_with_payload", "to_with_vector"]


def to_selection(points: object) -> Any:
    """The engine's Filter, or a list of ids, each once, for any of the forms in which points can be chosen."""
    match points:
        case models.FilterSelector(filter=chosen) | {"filter": chosen}:
            return to_filter(chosen)
        case models.PointIdsList(points=ids) | {"points": ids}:
            return to_selection(ids)
        case models.Filter() | dict():
            return to_filter(points)  # type: ignore[arg-type]  # a dict stands for one
        case int() | str() | uuid.UUID():
            return [to_point_id(points)]
        case list() | tuple() if len(points):
            # The engine does not find a point the second time that the first has moved out of an optimized segment.
            return list(dict.fromkeys(to_point_id(one) for one in points))
    raise InvalidRequest("choose points by a list of ids that is not empty, or by a models.Filter")


def to_with_payload(choice: object) -> Any:
    """Which payload fields to read: bool, list of names or a selector. Raises InvalidRequest."""
    match choice:
        case None:
            return False
        case bool():
            return choice
        case list() | tuple() if all(isinstance(one, str) for one in choice):
            return _select(engine.PayloadSelector.Include, list(choice))
        case models.PayloadSelectorInclude(include=names) | {"include": names}:
            return _select(engine.PayloadSelector.Include, names)
        case models.PayloadSelectorExclude(exclude=names) | {"exclude": names}:
            return _select(engine.PayloadSelector.Exclude, names)
    raise InvalidRequest(f"with_payload is True, False, a list of fields or a selector of them, not {choice!r}")


def _select(kind: Callable[[list[str]], Any], names: list[str]) -> Any:
    try:
        return kind(names)
    except ValueError as error:
        raise explain_wrong_key(error) or error from error


def to_with_vector(choice: object) -> bool | list[str]:
    """Which vectors to read: bool or list of names; the unnamed one is ""."""
    match choice:
        case None:
            return False
        case bool():
            return choice
        case list() | tuple() if all(isinstance(one, str) for one in choice):
            return list(choice)
    raise InvalidRequest(f"with_vectors is True, False or a list of names of vectors, not {choice!r}")
