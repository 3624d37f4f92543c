"""Where a search by words looks: fields of the payload, and how much each counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from clip_qdrant.collection.options import is_number
from clip_qdrant.collection.text.vectors import METADATA, has_words
from clip_qdrant.errors import FilterError, QueryError
from clip_qdrant.fields.types import FieldType

__all__ = ["TextFields", "choose_fields"]

# Names as in `where`, with their weights, or names alone.
TextFields = Mapping[str, float] | Sequence[str]

# Names of files and folders are often no words, or those of the programs that made them.
_LEAST, _MOST = 1e-6, 1e6  # a weight: scores, which are floats of 32 bits, stay finite and above 0
_DEFAULT: Mapping[str, float] = {"caption": 1.0, "uri": 0.5, METADATA: 1.0}


def choose_fields(chosen: TextFields | None, find: Callable[[str], tuple[str, FieldType]]) -> dict[str, float]:
    """The weights by full payload key. `find` gives key and type of the field of a name.

    Raises FilterError for a field that is not there or has no words, QueryError for a weight that is none.
    """
    if chosen is None:
        return dict(_DEFAULT)
    if isinstance(chosen, str):
        chosen = [chosen]
    if not isinstance(chosen, Sequence | Mapping) or not chosen or not all(isinstance(name, str) for name in chosen):
        raise QueryError(f"text_fields must be names of fields, or their weights by name, not {chosen!r}")
    named = chosen if isinstance(chosen, Mapping) else dict.fromkeys(chosen, 1.0)
    return {_find_key(name, find): _check_weight(name, weight) for name, weight in named.items()}


def _find_key(name: str, find: Callable[[str], tuple[str, FieldType]]) -> str:
    if name == METADATA:
        return name
    key, field_type = find(name)
    if not has_words(key, field_type):
        raise FilterError(
            f"field {name!r} is of type {field_type} and has no words to look in; text_fields names caption, uri, "
            "metadata (all of it), or keyword and text fields"
        )
    return key


def _check_weight(name: str, weight: float) -> float:
    if not is_number(weight) or not _LEAST <= weight <= _MOST:
        bounds = f"{_LEAST:f} to {_MOST:.0f}"
        raise QueryError(f"the weight of {name!r} in text_fields must be a number above 0 ({bounds}), not {weight!r}")
    return float(weight)
