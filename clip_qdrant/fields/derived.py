"""What is stored beside the fields of an image so that filters find it, and which payload indexes each field has.

| field | stored beside it | indexes |
|---|---|---|
| datetime | what the clock showed (`wall_clock`) | both |
| `taken_at` | month, day, weekday and hour (`calendar`) too | these too |
| text | its words (`words`) | the words alone |
| others | nothing | the field |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clip_qdrant.fields.calendar import CALENDAR_KEY, read_calendar
from clip_qdrant.fields.types import FieldType
from clip_qdrant.fields.wall_clock import WALL_CLOCK, read_wall_clocks, wall_clock_key
from clip_qdrant.fields.words import WORDS, read_words, words_key

__all__ = ["add_derived", "index_keys"]


def index_keys(key: str, field_type: FieldType) -> dict[str, FieldType]:
    """The payload indexes of the field at a payload key, each with the type of what it holds."""
    if field_type == "text":
        return {words_key(key): "keyword"}
    keys: dict[str, FieldType] = {key: field_type}
    if field_type == "datetime":
        keys[wall_clock_key(key)] = "datetime"
    if key == "taken_at":
        keys[CALENDAR_KEY] = "integer"
    return keys


def add_derived(payload: Mapping[str, Any], fields: Mapping[str, FieldType]) -> dict[str, Any]:
    """The payload with what is derived from its fields; `fields` are their types by full payload key.

    What had been derived before is replaced.
    """
    moments, texts = [], []
    for key, field_type in fields.items():
        if field_type == "datetime" and key != wall_clock_key(key):
            moments.append(key)
        elif field_type == "text":
            texts.append(key)
    own = {key: value for key, value in payload.items() if key not in (WALL_CLOCK, WORDS, "calendar")}
    derived: dict[str, Any] = {WALL_CLOCK: read_wall_clocks(own, moments), WORDS: read_words(own, texts)}
    derived["calendar"] = read_calendar(derived)
    return {**own, **{key: value for key, value in derived.items() if value}}
