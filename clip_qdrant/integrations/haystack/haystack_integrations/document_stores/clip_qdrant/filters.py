"""Haystack's filters -> the `where` of a collection.

A field is named as Haystack does it (`meta.year`, or `year`), `content` is the caption, `id` the id of the document and
`meta.file_path` the path of its image. As in Haystack, an image that lacks the field meets `!=` and `not in` alone, and
nothing is more or less than None. Fields have a type, and a value of another one is refused, as is a field that no
image has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from haystack.errors import FilterError as HaystackFilterError
from qdrant_client import models

from clip_qdrant.errors import FilterError
from clip_qdrant.filters.build import Where
from haystack_integrations.document_stores.clip_qdrant.images import FILE_PATH

__all__ = ["FindIds", "PathUri", "build_where", "field_name"]

# The point ids that a document id may stand for, and the uri of a path in the metadata.
FindIds = Callable[[Sequence[str]], list[str]]
PathUri = Callable[[str], str]

_META = "meta."
_OPERATORS = {"==": "=", "!=": "!=", ">": ">", ">=": ">=", "<": "<", "<=": "<=", "in": "in", "not in": "not in"}
_ORDER = (">", ">=", "<", "<=")
_EVERYTHING = models.Filter()
_NOTHING = models.Filter(must=[models.HasIdCondition(has_id=[])])


def build_where(filters: Mapping[str, Any] | None, find_ids: FindIds, path_uri: PathUri) -> Where | None:
    """The condition that filters describe; None for none. Raises Haystack's FilterError for malformed ones."""
    if not filters:
        return None
    try:
        return _build(filters, find_ids, path_uri)
    except FilterError as error:
        raise HaystackFilterError(str(error)) from error


def field_name(name: str) -> str:
    """The field of a collection that Haystack calls `name`."""
    if name == "content":
        return "caption"
    return name.removeprefix(_META)


def _build(filters: Any, find_ids: FindIds, path_uri: PathUri) -> Where:
    if not isinstance(filters, Mapping):
        raise FilterError(f"a filter is a dict, not {filters!r}")
    if "field" in filters:
        return _build_comparison(filters, find_ids, path_uri)
    operator, conditions = _take(filters, "operator"), _take(filters, "conditions")
    if not isinstance(conditions, list):
        raise FilterError(f"conditions must be a list of filters, not {conditions!r}")
    parts = [_build(condition, find_ids, path_uri) for condition in conditions]
    if operator == "AND":
        return {"and": parts} if parts else _EVERYTHING
    if operator == "OR":
        return {"or": parts} if parts else _NOTHING
    if operator == "NOT":  # of all of them together, as Haystack reads it
        return {"not": {"and": parts}} if parts else _NOTHING
    raise FilterError(f"there is no operator {operator!r} between conditions; there are AND, OR and NOT")


def _build_comparison(filters: Mapping[str, Any], find_ids: FindIds, path_uri: PathUri) -> Where:
    field, operator, value = (_take(filters, key) for key in ("field", "operator", "value"))
    if not isinstance(field, str):
        raise FilterError(f"a field is named by text, not by {field!r}")
    if operator not in _OPERATORS:
        raise FilterError(f"{field}: there is no operator {operator!r}; there are {', '.join(_OPERATORS)}")
    if operator in ("in", "not in"):
        if not isinstance(value, list):
            raise FilterError(f"{field}: {operator} takes a list of values, not {value!r}")
        if not value:
            return _NOTHING if operator == "in" else _EVERYTHING
    if operator in _ORDER and value is None:
        return _NOTHING
    if field == "id":
        return _compare_ids(operator, value, find_ids)
    name = field_name(field)
    if name == FILE_PATH:
        name, value = "uri", _name_uris(value, path_uri)
    return {name: {_OPERATORS[operator]: value}}


def _compare_ids(operator: str, value: Any, find_ids: FindIds) -> Where:
    ids = value if isinstance(value, list) else [value]
    if operator in _ORDER or not all(isinstance(each, str) for each in ids):
        raise FilterError(f"id: ids are text, and are compared by ==, !=, in and not in; not by {operator} {value!r}")
    chosen = models.Filter(must=[models.HasIdCondition(has_id=[*find_ids(ids)])])
    return {"not": chosen} if operator in ("!=", "not in") else chosen


def _name_uris(value: Any, path_uri: PathUri) -> Any:
    if isinstance(value, list):
        return [path_uri(each) if isinstance(each, str) else each for each in value]
    return path_uri(value) if isinstance(value, str) else value


def _take(filters: Mapping[str, Any], key: str) -> Any:
    if key not in filters:
        raise FilterError(f"a filter has no {key!r}: {dict(filters)!r}")
    return filters[key]
