"""`~` on a text field: all words, within one text of the field (`fields.words`)."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from clip_qdrant.fields.types import RESERVED_FIELDS
from clip_qdrant.fields.values import describe_value
from clip_qdrant.fields.words import SEVERAL, list_words, words_key
from clip_qdrant.filters.operands import check_text, unfit

__all__ = ["build_words"]

_MOST_WORDS = 64  # each is a condition


def build_words(key: str, name: str, value: Any) -> models.Condition:
    """The condition that one text of the field at a payload key has all words of `value`."""
    if not isinstance(value, str):
        raise unfit(0, f"{name} is a text field: search it for text in quotes, not {describe_value(value)}")
    words = list_words(check_text(0, value))
    if not words:
        raise unfit(0, f"{describe_value(value)} holds no word to search {name} for")
    if len(words) > _MOST_WORDS:
        raise unfit(0, f"~ takes {_MOST_WORDS} words, not {len(words)}; leave out the usual ones")
    place = words_key(key)
    conditions: list[models.Condition] = [_is(place, word) for word in words]
    if len(words) == 1:
        return conditions[0]
    if key in RESERVED_FIELDS:  # these hold one text
        return models.Filter(must=conditions)
    # The index knows the words of all texts of an image together. Only where there are several is it asked text by
    # text, which reads payloads: 10 µs for an image that has all the words.
    array, _, part = place.rpartition("[].")
    one = models.NestedCondition(
        nested=models.Nested(key=array, filter=models.Filter(must=[_is(part, word) for word in words]))
    )
    alone = models.Filter(must_not=[_is(place, SEVERAL)])
    return models.Filter(must=[*conditions, models.Filter(should=[alone, one])])


def _is(key: str, word: str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=word))
