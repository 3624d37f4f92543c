"""Filters and their conditions."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import qdrant_edge as engine
from pydantic import ValidationError
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest, UnsupportedByEdge, first_line
from clip_qdrant.store.edge.convert.geo import to_place
from clip_qdrant.store.edge.convert.ids import to_point_id

__all__ = ["to_condition", "to_filter"]

# Of a min_should, as `_at_least` has it:
_MOST_AT_ONCE = 100  # choices, which the engine goes through in a millisecond
_MOST_CHOICES = 100_000  # with more conditions than are put as halves of halves in a second
_MOST_CONDITIONS = 40


def to_filter(condition: models.Filter | None) -> engine.Filter | None:
    """A filter as the engine takes it. UnsupportedByEdge for what it has no counterpart of."""
    if condition is None:
        return None
    if not isinstance(condition, models.Filter):
        try:
            condition = models.Filter.model_validate(condition)
        except ValidationError as error:
            raise InvalidRequest(f"{repr(condition)[:80]} is no models.Filter ({first_line(error)})") from error
    must, least = _clause(condition.must), condition.min_should
    if least is not None:
        if least.min_count < 1:
            raise InvalidRequest(f"min_count of min_should is {least.min_count}: it must be 1 or more")
        there = len(least.conditions)
        if there > _MOST_CONDITIONS and math.comb(there, least.min_count) > _MOST_CHOICES:
            raise InvalidRequest(
                f"a min_should of {least.min_count} among {there} conditions has more choices than can be gone "
                f"through: give {_MOST_CONDITIONS} conditions at most"
            )
        # A filter of its own: next to other clauses, or with a condition twice, the engine takes a min_should for
        # fulfilled where each of its conditions is one that payload indexes are asked for.
        must = [*(must or []), _at_least(least.min_count, _clause(least.conditions) or [])]
    return engine.Filter(must=must, should=_clause(condition.should), must_not=_clause(condition.must_not))


def _at_least(count: int, conditions: list[Any]) -> engine.Filter:
    """A filter that so many of the conditions pass.

    The engine goes through all choices of `count` conditions before it searches: for 12 of 24 that is 39 s and 5.6 GB.
    More than a few are put as what two halves have to pass together.
    """
    if math.comb(len(conditions), count) <= _MOST_AT_ONCE:
        return engine.Filter(min_should=engine.MinShould(conditions, count))
    half = len(conditions) // 2
    first, second = conditions[:half], conditions[half:]
    either: list[Any] = []
    for of_first in range(max(0, count - len(second)), min(count, len(first)) + 1):
        shares = ((of_first, first), (count - of_first, second))
        both: list[Any] = [_at_least(share, part) for share, part in shares if share]
        either.append(engine.Filter(must=both))
    return engine.Filter(should=either)


def _clause(conditions: object) -> list[Any] | None:
    if conditions is None:
        return None
    return [to_condition(one) for one in (conditions if isinstance(conditions, list) else [conditions])]


def to_condition(one: object) -> Any:
    """One condition of a filter."""
    match one:
        case models.Filter():
            return to_filter(one)
        case models.FieldCondition():
            return _field(one)
        case models.HasIdCondition():
            return engine.HasIdCondition({to_point_id(value) for value in one.has_id})
        case models.IsEmptyCondition():
            return engine.IsEmptyCondition(one.is_empty.key)
        case models.IsNullCondition():
            return engine.IsNullCondition(one.is_null.key)
        case models.HasVectorCondition():
            return engine.HasVectorCondition(one.has_vector)
        case models.NestedCondition():
            return engine.NestedCondition(one.nested.key, to_filter(one.nested.filter) or engine.Filter())
        case models.SliceCondition():
            return engine.SliceCondition(one.slice.total, one.slice.index)  # type: ignore[attr-defined]  # not in its stubs
    raise UnsupportedByEdge(f"the condition {type(one).__name__}")


def _field(one: models.FieldCondition) -> Any:
    booleans = (
        [value for value in one.match.any if isinstance(value, bool)] if isinstance(one.match, models.MatchAny) else []
    )
    if booleans:
        # Only a model made without validation gets here; a list of them would match as integers.
        return engine.Filter(should=[engine.FieldCondition(one.key, match=_value(value)) for value in booleans])
    # Short for IsEmptyCondition and IsNullCondition. The engine asks the short form of each value of a key with [].
    if one.is_empty is not None:
        return _whether(engine.IsEmptyCondition(one.key), one.is_empty)
    if one.is_null is not None:
        return _whether(engine.IsNullCondition(one.key), one.is_null)
    place = to_place(one)
    if place is not None:
        return place
    count = one.values_count
    return engine.FieldCondition(
        one.key,
        match=_match(one.match) if one.match else None,
        range=_range(one.range) if one.range else None,
        values_count=engine.ValuesCount(lt=count.lt, gt=count.gt, lte=count.lte, gte=count.gte) if count else None,
    )


def _whether(condition: Any, wanted: bool) -> Any:
    return condition if wanted else engine.Filter(must_not=[condition])


def _match(match: object) -> Any:
    match match:
        case models.MatchValue():
            return _value(match.value)
        case models.MatchAny():
            return engine.MatchAny(match.any)
        case models.MatchExcept():
            return engine.MatchExcept(match.except_)
        case models.MatchText():
            return engine.MatchText(match.text)
        case models.MatchTextAny():
            return engine.MatchTextAny(match.text_any)
        case models.MatchPhrase():
            return engine.MatchPhrase(match.phrase)
        case models.MatchPrefix():
            return engine.MatchPrefix(match.prefix)
        case models.MatchSubstring():
            return engine.MatchSubstring(match.substring)
    raise UnsupportedByEdge(f"the match {type(match).__name__}")


class _Bool:
    """A boolean as the engine takes it: a Python bool is an int too, and would become 1 or 0, which no boolean equals.

    Its binding, PyO3, also takes for a boolean what says it is `numpy.bool_`. numpy's own is an int too before
    numpy 2.3.
    """

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value


_Bool.__module__, _Bool.__name__ = "numpy", "bool_"


def _value(value: bool | int | str) -> engine.MatchValue:
    return engine.MatchValue(_Bool(value) if isinstance(value, bool) else value)  # type: ignore[arg-type]  # see _Bool


def _range(bounds: models.RangeInterface) -> Any:
    if isinstance(bounds, models.Range):
        return engine.RangeFloat(**_tightest(bounds.gt, bounds.gte, bounds.lt, bounds.lte))
    moments = _tightest(_moment(bounds.gt), _moment(bounds.gte), _moment(bounds.lt), _moment(bounds.lte))
    return engine.RangeDateTime(**{name: moment.isoformat() for name, moment in moments.items()})


def _tightest(gt: Any, gte: Any, lt: Any, lte: Any) -> dict[str, Any]:
    # Of two bounds on one side the engine's payload indexes obey the open one alone, however far out it is.
    if gt is not None and gte is not None:
        gt, gte = (gt, None) if gt >= gte else (None, gte)
    if lt is not None and lte is not None:
        lt, lte = (lt, None) if lt <= lte else (None, lte)
    named = {"gt": gt, "gte": gte, "lt": lt, "lte": lte}
    return {name: bound for name, bound in named.items() if bound is not None}


def _moment(value: datetime | date | None) -> datetime | None:
    if value is not None and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value is not None and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value
