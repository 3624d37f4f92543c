"""explain_index: what serves the filter of a search, and its vectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.collection.text.vectors import TEXT_VECTOR

if TYPE_CHECKING:
    from clip_qdrant.collection.reader import CollectionReader

__all__ = ["explain_index"]


def explain_index(reader: CollectionReader, selection: models.Filter | None, options: SearchOptions) -> str:
    """How the store finds what a filter selects and what is near, in a line (one call)."""
    info = reader.description.ask(
        lambda: reader.client.get_collection(reader.name), what=f"opening collection {reader.name!r}"
    )
    if options.exact:
        vectors = f"vectors: all are compared (exact), {info.points_count} at most"
    elif indexed := _count_indexed(reader, info):
        vectors = f"vectors: HNSW over {indexed} of {info.points_count}"
    else:
        vectors = f"vectors: no index, all {info.points_count} that the filter leaves are compared"
    return f"{_explain_filter(selection, info.payload_schema or {})}; {vectors}"


def _count_indexed(reader: CollectionReader, info: models.CollectionInfo) -> int:
    """How many vectors of images are in an index: what stores tell counts those of words too, which always are."""
    indexed = info.indexed_vectors_count or 0
    if indexed and TEXT_VECTOR in (info.config.params.sparse_vectors or {}):
        indexed -= reader.count(models.Filter(must=[models.HasVectorCondition(has_vector=TEXT_VECTOR)]))
    return max(0, indexed)


def _explain_filter(selection: models.Filter | None, indexes: dict[str, models.PayloadIndexInfo]) -> str:
    if selection is None:
        return "filter: none"
    told = []
    for key in dict.fromkeys(_list_keys(selection)):
        index = indexes.get(key.replace("[]", ""))
        told.append(f"{key} by {'no index' if index is None else f'its {index.data_type.value} index'}")
    return "filter: " + (", ".join(told) or "ids")


def _list_keys(condition: Any, inside: str = "") -> Iterator[str]:
    """The payload keys that a condition names, at any depth."""
    if isinstance(condition, models.Filter):
        clauses = [condition.must, condition.should, condition.must_not]
        if condition.min_should:
            clauses.append(condition.min_should.conditions)
        for clause in clauses:
            for each in clause if isinstance(clause, list) else [clause]:
                yield from _list_keys(each, inside)
    elif isinstance(condition, models.NestedCondition):
        yield from _list_keys(condition.nested.filter, f"{inside}{condition.nested.key.removesuffix('[]')}.")
    elif isinstance(condition, models.FieldCondition):
        yield inside + condition.key
    elif isinstance(condition, models.IsEmptyCondition):
        yield inside + condition.is_empty.key
    elif isinstance(condition, models.IsNullCondition):
        yield inside + condition.is_null.key
