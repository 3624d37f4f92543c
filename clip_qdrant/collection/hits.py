"""What comes back from a collection: a stored image as a hit, and the count of a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from clip_qdrant.fields.dates import parse_datetime
from clip_qdrant.image_names import member_of
from clip_qdrant.uris import path_of

__all__ = ["Facet", "Hit"]


@dataclass(frozen=True, slots=True)
class Facet:
    """One value of a field and the number of images that have it."""

    value: str | int | bool
    count: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search. `score` is the cosine similarity, -1 to 1 (None where nothing was compared)."""

    id: str
    score: float | None
    uri: str
    caption: str | None
    metadata: Mapping[str, Any]
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> Path | None:
        """The local file, for an image that is one; None for others, and for those in an archive."""
        return path_of(self.uri) if member_of(self.uri) is None else None

    @property
    def taken_at(self) -> datetime | None:
        """When the picture was taken; without a zone where none is known."""
        taken_at = self.payload.get("taken_at")
        return parse_datetime(taken_at) if isinstance(taken_at, str) else None

    def _repr_html_(self) -> str:
        from clip_qdrant.pages.cards import card_html

        return card_html(self)
