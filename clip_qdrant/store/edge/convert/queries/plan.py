"""A query read whole: its models, or dicts of them, checked, with every default filled in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client import models

from clip_qdrant.errors import InvalidRequest

__all__ = ["FUSIONS", "QueryPlan", "check_number", "read_model", "read_plan", "read_request"]

FUSIONS = (models.FusionQuery, models.RrfQuery)
_LIMIT = 10  # that of a server, of a query and of each prefetch
_MOST_CANDIDATES = 16384  # of MMR, as on a server
_QUERIES = get_args(models.Query)

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """Where points come from: a query over a collection, or over the points that its prefetches give.

    `query` is one of the models of models.Query; None gives points in the order of their ids.
    """

    query: Any
    using: str | None
    prefetch: tuple[QueryPlan, ...]
    filter: models.Filter | None
    params: models.SearchParams | None
    limit: int
    score_threshold: float | None
    lookup_from: models.LookupLocation | None


def read_plan(
    query: object,
    *,
    using: str | None,
    prefetch: object,
    query_filter: object,
    params: object,
    limit: int | None,
    score_threshold: float | None,
    lookup_from: object,
) -> QueryPlan:
    """The plan that the arguments of query_points describe. Raises InvalidRequest."""
    model = _read_query(query)
    if prefetch is None:
        prefetches: tuple[QueryPlan, ...] = ()
    else:
        several = prefetch if isinstance(prefetch, list | tuple) else [prefetch]
        prefetches = tuple(_read_prefetch(one) for one in several if one is not None)
    plan = QueryPlan(
        model,
        using,
        prefetches,
        read_model(models.Filter, query_filter),
        read_model(models.SearchParams, params),
        _LIMIT if limit is None else check_number("limit", limit, 1),
        score_threshold,
        read_model(models.LookupLocation, lookup_from),
    )
    _check(plan)
    return plan


def read_model(kind: type[_M], value: object) -> _M | None:
    """A model as it is, or made of a dict, as a server takes it. Raises InvalidRequest."""
    if value is None or isinstance(value, kind):
        return value
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _wrong(value, error, kind.__name__) from None


def check_number(name: str, value: object, least: int) -> int:
    """A whole number that fits into 64 bits. Raises InvalidRequest."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**64:
        raise InvalidRequest(f"{name} is {value!r}: it must be a whole number from {least} to 2^64 - 1")
    return value


def _read_prefetch(value: object) -> QueryPlan:
    one = read_model(models.Prefetch, value)
    assert one is not None
    return read_request(one)


def read_request(one: models.Prefetch | models.QueryRequest) -> QueryPlan:
    """The plan of a prefetch, or of a request of a batch, which say what to find by the same names."""
    return read_plan(
        one.query,
        using=one.using,
        prefetch=one.prefetch,
        query_filter=one.filter,
        params=one.params,
        limit=one.limit,
        score_threshold=one.score_threshold,
        lookup_from=one.lookup_from,
    )


def _read_query(query: object) -> Any:
    if query is None or isinstance(query, _QUERIES):
        return query
    if isinstance(query, Mapping) and not {"indices", "values"} <= set(query):
        try:
            query = _query_adapter().validate_python(query)
        except ValidationError as error:
            raise _wrong(query, error, "query") from None
        if isinstance(query, _QUERIES):
            return query
    return models.NearestQuery.model_construct(nearest=query, mmr=None)  # its vector is checked where it is used


@functools.cache
def _query_adapter() -> TypeAdapter[Any]:
    return TypeAdapter(models.QueryInterface)


def _wrong(value: object, error: ValidationError, kind: str) -> InvalidRequest:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or kind
    return InvalidRequest(f"{repr(value)[:80]} is no {kind}: {where}: {first['msg']}")


def _check(plan: QueryPlan) -> None:
    """InvalidRequest for what a server refuses too."""
    query = plan.query
    if query is None:
        if plan.prefetch:
            raise InvalidRequest("prefetches were given without a query that merges them")
        if plan.score_threshold is not None:
            raise InvalidRequest("score_threshold was given without a query: points in the order of ids have no score")
    match query:
        case models.OrderByQuery() if plan.score_threshold is not None:
            raise InvalidRequest("score_threshold cannot be used with order_by: such points have no score")
        case models.FusionQuery() | models.RrfQuery():
            if not plan.prefetch:
                raise InvalidRequest("a fusion needs prefetches whose points it joins")
            if plan.using is not None:
                raise InvalidRequest(f"a fusion compares no vectors: leave out using={plan.using!r}")
            if isinstance(query, models.RrfQuery):
                _check_rrf(query.rrf, len(plan.prefetch))
        case models.FormulaQuery() if not plan.prefetch:
            raise InvalidRequest("a formula needs prefetches whose points it scores")
        case models.NearestQuery(mmr=models.Mmr() as mmr):
            if mmr.candidates_limit is not None and not 0 <= mmr.candidates_limit <= _MOST_CANDIDATES:
                raise InvalidRequest(
                    f"candidates_limit is {mmr.candidates_limit}: it must be from 0 to {_MOST_CANDIDATES}"
                )
            if mmr.diversity is not None and not 0 <= mmr.diversity <= 1:
                raise InvalidRequest(f"diversity is {mmr.diversity}: it must be from 0 to 1")
        case models.RelevanceFeedbackQuery(relevance_feedback=feedback) if feedback.strategy.naive.b < 0:
            raise InvalidRequest(f"b of the feedback strategy is {feedback.strategy.naive.b}: it must not be negative")
        case models.TextQuery() if plan.using is None:
            raise InvalidRequest("a text query needs `using`, the payload field whose text it searches")


def _check_rrf(rrf: models.Rrf, prefetches: int) -> None:
    if rrf.k is not None and rrf.k < 1:
        raise InvalidRequest(f"k of the fusion is {rrf.k}: it must be 1 or more")
    if rrf.weights is not None and len(rrf.weights) != prefetches:
        raise InvalidRequest(f"the fusion has {len(rrf.weights)} weights for {prefetches} prefetches")
