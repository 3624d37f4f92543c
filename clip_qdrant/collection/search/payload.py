"""choose_payload: the payload keys that hits are to carry, from the names of fields."""

from __future__ import annotations

from collections.abc import Sequence

from clip_qdrant.collection.reader import CollectionReader
from clip_qdrant.errors import FilterError
from clip_qdrant.filters.build import resolve_field

__all__ = ["choose_payload"]

# Parts of the payload profile that hold fields, or are read whole.
_PARTS = ("uri", "caption", "metadata", "image", "taken_at", "location", "source", "local_time")


def choose_payload(names: bool | Sequence[str], reader: CollectionReader) -> bool | list[str]:
    """The payload keys of fields named as in `where`, or of whole parts; a hit always has its uri.

    Raises FilterError for a field that is not there.
    """
    if names is True:
        return True
    keys = ["uri"]
    for name in names or ():
        if name in _PARTS or name.partition(".")[0] in _PARTS[3:4]:
            keys.append(name)
            continue
        try:
            keys.append(reader.resolve(lambda fields, name=name: resolve_field(name, fields)))  # type: ignore[misc]  # the default only binds the name of this turn
        except FilterError as error:
            raise FilterError(f"payload: {error}", unknown_field=error.unknown_field) from error
    return list(dict.fromkeys(keys))
