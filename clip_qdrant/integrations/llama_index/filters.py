"""MetadataFilters of LlamaIndex as a where of a collection."""

from __future__ import annotations

from typing import Any

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from clip_qdrant.errors import FilterError
from clip_qdrant.filters.build import Where

__all__ = ["read_filters"]

_OPERATORS = {
    FilterOperator.EQ: "=",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.IN: "in",
    FilterOperator.NIN: "not in",
    FilterOperator.ANY: "in",  # of a field with several values, as every condition is
    FilterOperator.CONTAINS: "=",
    FilterOperator.TEXT_MATCH: "~",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "~",
}


def read_filters(filters: MetadataFilters | Where | None) -> Where | None:
    """A where; what is one already stays. Raises FilterError for an operator that there is not here."""
    if not isinstance(filters, MetadataFilters):
        return filters
    parts = [_read_one(one) if isinstance(one, MetadataFilter) else read_filters(one) for one in filters.filters]
    wanted = [part for part in parts if part]
    if not wanted:
        return None
    if filters.condition == FilterCondition.NOT:
        return {"not": {"or": wanted}}
    return {"or" if filters.condition == FilterCondition.OR else "and": wanted}


def _read_one(one: MetadataFilter) -> dict[str, Any]:
    if one.operator == FilterOperator.IS_EMPTY:
        return {one.key: {"is null": True}}
    if one.operator == FilterOperator.ALL:
        values = one.value if isinstance(one.value, list) else [one.value]
        return {"and": [{one.key: {"=": value}} for value in values]}
    if one.operator not in _OPERATORS:
        known = ", ".join(operator.value for operator in _OPERATORS)
        raise FilterError(f"{one.key}: there is no operator {one.operator.value!r} here; there are {known}")
    return {one.key: {_OPERATORS[one.operator]: one.value}}
