"""MetadataFilters of LlamaIndex as a where of a collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.types import FieldType
from clip_qdrant.filters.build import Where, resolve_field

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


def read_filters(filters: MetadataFilters | Where | None, fields: Mapping[str, FieldType]) -> Where | None:
    """A where; what is one already stays. `fields` are those of the collection.

    Raises FilterError for an operator that there is not here, or not for this field.
    """
    if not isinstance(filters, MetadataFilters):
        return filters
    parts = [
        _read_one(one, fields) if isinstance(one, MetadataFilter) else read_filters(one, fields)
        for one in filters.filters
    ]
    wanted = [part for part in parts if part]
    if not wanted:
        return None
    if filters.condition == FilterCondition.NOT:
        return {"not": {"or": wanted}}
    return {"or" if filters.condition == FilterCondition.OR else "and": wanted}


def _read_one(one: MetadataFilter, fields: Mapping[str, FieldType]) -> dict[str, Any]:
    if one.operator == FilterOperator.IS_EMPTY:
        return {one.key: {"is null": True}}
    if one.operator == FilterOperator.ALL:
        values = one.value if isinstance(one.value, list) else [one.value]
        return {"and": [{one.key: {"=": value}} for value in values]}
    if one.operator == FilterOperator.TEXT_MATCH_INSENSITIVE and _is_keyword(one.key, fields):
        raise FilterError(
            f"{one.key} is a keyword field, in which upper and lower case count: use text_match, or declare it as "
            "text, of which words are found in any case"
        )
    if one.operator not in _OPERATORS:
        known = ", ".join(operator.value for operator in _OPERATORS)
        raise FilterError(f"{one.key}: there is no operator {one.operator.value!r} here; there are {known}")
    return {one.key: {_OPERATORS[one.operator]: one.value}}


def _is_keyword(name: str, fields: Mapping[str, FieldType]) -> bool:
    try:
        return fields[resolve_field(name, fields)] == "keyword"
    except FilterError:  # a search says so, where there is a collection
        return False
