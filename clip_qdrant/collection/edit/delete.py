"""delete: takes images out of a collection, by name, by a condition, or by both."""

from __future__ import annotations

from collections.abc import Sequence

from qdrant_client import models

from clip_qdrant.collection.points import batches
from clip_qdrant.collection.reader import IDS_PER_CALL, CollectionReader
from clip_qdrant.errors import QueryError
from clip_qdrant.filters.build import holds_always

__all__ = ["delete_images"]


def delete_images(reader: CollectionReader, *, ids: Sequence[str] | None, selection: models.Filter | None) -> int:
    """See ImageCollection.delete. `ids` are point ids."""
    if ids is None:
        if selection is None or holds_always(selection):
            raise QueryError("delete() needs uris or where; drop() deletes the whole collection")
        return _delete(reader, selection)
    deleted = 0
    for chunk in batches(ids, IDS_PER_CALL):
        must: list[models.Condition] = [models.HasIdCondition(has_id=[*chunk])]
        if selection is not None:
            must.append(selection)
        deleted += _delete(reader, models.Filter(must=must))
    return deleted


def _delete(reader: CollectionReader, selection: models.Filter) -> int:
    number = reader.count_exactly(selection)
    if number:
        reader.description.ask(
            lambda: reader.client.delete(
                reader.name, points_selector=models.FilterSelector(filter=selection), wait=True
            ),
            what=f"deleting from collection {reader.name!r}",
        )
    return number
