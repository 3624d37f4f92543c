"""The order of points by a payload field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import qdrant_edge as engine
from pydantic import ValidationError
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest, first_line

__all__ = ["to_equal_condition", "to_order_by"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SORTED = (engine.PayloadSchemaType.Integer, engine.PayloadSchemaType.Float, engine.PayloadSchemaType.Datetime)


def to_order_by(asked: object, indexes: Mapping[str, engine.PayloadIndexInfo]) -> engine.OrderBy:
    """The order as the engine takes it, from the name of a field or models.OrderBy. `indexes` are those of the shard.

    Raises InvalidRequest for a field that has no payload index which sorts.
    """
    try:
        order = models.OrderBy.model_validate({"key": asked} if isinstance(asked, str) else asked)
    except ValidationError as error:
        raise InvalidRequest(f"{asked!r} is no order ({first_line(error)}): give a field or models.OrderBy") from error
    index = indexes.get(order.key)
    params = index.params if index is not None else None
    if index is None or index.data_type not in _SORTED or getattr(params, "range", None) is False:
        raise InvalidRequest(
            f"points cannot be ordered by {order.key!r}: it needs a payload index of type integer, float or datetime "
            f"(create_payload_index(collection, {order.key!r}, 'float'))"
        )
    first = order.start_from
    start = first.isoformat() if isinstance(first, date) else first  # without a zone: UTC, as the engine reads it
    falling = order.direction == models.Direction.DESC
    direction = engine.Direction.Desc if falling else engine.Direction.Asc
    try:
        return engine.OrderBy(order.key, direction, start)
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"points cannot be ordered from {start!r} on ({first_line(error)})") from error


def to_equal_condition(order: engine.OrderBy, value: int | float, index: engine.PayloadIndexInfo) -> Any:
    """The condition that points have this value in the field they are ordered by."""
    if index.data_type == engine.PayloadSchemaType.Integer:  # exact beyond 2^53 too
        return engine.FieldCondition(order.key, match=engine.MatchValue(int(value)))
    if index.data_type == engine.PayloadSchemaType.Datetime:
        moment = (_EPOCH + timedelta(microseconds=int(value))).isoformat()
        return engine.FieldCondition(order.key, range=engine.RangeDateTime(gte=moment, lte=moment))
    return engine.FieldCondition(order.key, range=engine.RangeFloat(gte=float(value), lte=float(value)))
