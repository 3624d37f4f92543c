"""choose_payload: the payload keys that hits are to carry, from the names of fields."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields

from clip_qdrant.collection.reader import CollectionReader
from clip_qdrant.errors import FilterError
from clip_qdrant.fields.names import canonical_name
from clip_qdrant.filters.build import resolve_field
from clip_qdrant.records import ImageInfo

__all__ = ["choose_payload"]

# Parts of the payload profile that hold fields, or are read whole.
_PARTS = ("uri", "caption", "metadata", "image", "taken_at", "location", "source", "local_time")
_OF_IMAGES = tuple(f"image.{field.name}" for field in fields(ImageInfo))
_TAGS = "image.tags."  # what the file said of itself, by any name


def choose_payload(names: bool | Sequence[str], reader: CollectionReader) -> bool | list[str]:
    """The payload keys of fields named as in `where`, or of whole parts; a hit always has its uri.

    Raises FilterError for a field that is not there.
    """
    if names is True:
        return True
    keys = ["uri"]
    for name in names or ():
        if name in (*_PARTS, *_OF_IMAGES):
            keys.append(name)
            continue
        if name.startswith(_TAGS):
            with suppress(ValueError):
                keys.append(canonical_name(name))
                continue
        try:
            keys.append(reader.resolve(lambda known, name=name: resolve_field(name, known)))  # type: ignore[misc]  # the default only binds the name of this turn
        except FilterError as error:
            raise FilterError(f"payload: {error}", unknown_field=error.unknown_field) from error
    return list(dict.fromkeys(keys))
