"""What comes back from a collection: stored images as hits, with what a search tells, and counts of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

from clip_qdrant.fields.dates import parse_datetime
from clip_qdrant.fields.types import Location
from clip_qdrant.image_names import member_of
from clip_qdrant.uris import path_of

__all__ = ["Explanation", "Facet", "Hit", "HitGroup", "Hits"]


@dataclass(frozen=True, slots=True)
class Facet:
    """One value of a field and the number of images that have it."""

    value: str | int | bool
    count: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One result of a search. `score` is the cosine similarity, -1 to 1 (None where nothing was compared).

    Of a search by words it is the weight of those found, of one by both 0 to 1, and `parts` has the two it is made of:
    "likeness" (the cosine similarity) and "words", each if the image is among the first of that list.
    `copies` are the ids of the images that it stands for besides itself, where near-duplicates are collapsed.
    `shares` says how much of the score comes from each term of the query, where the search explains itself.
    `vector` is the stored one, float32 (dim,), where it was asked for.
    """

    id: str
    score: float | None
    uri: str
    caption: str | None
    metadata: Mapping[str, Any]
    payload: Mapping[str, Any] = field(default_factory=dict, repr=False)
    relevance: float | None = None
    copies: tuple[str, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict, repr=False)
    shares: Mapping[str, float] = field(default_factory=dict, repr=False)
    vector: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def path(self) -> Path | None:
        """The local file, for an image that is one; None for others, and for those in an archive."""
        return path_of(self.uri) if member_of(self.uri) is None else None

    @property
    def taken_at(self) -> datetime | None:
        """When the picture was taken; without a zone where none is known."""
        taken_at = self.payload.get("taken_at")
        return parse_datetime(taken_at) if isinstance(taken_at, str) else None

    @property
    def location(self) -> Location | None:
        """Where the picture was taken."""
        place = self.payload.get("location")
        if not isinstance(place, Mapping) or not {"lat", "lon"} <= place.keys():
            return None
        return Location(place["lat"], place["lon"])

    def to_dict(self) -> dict[str, Any]:
        """JSON types: id, score, the path of a local file (None for others), and the payload as it is stored."""
        told: dict[str, Any] = {"id": self.id, "score": self.score}
        if self.relevance is not None:
            told["relevance"] = self.relevance
        if self.copies:
            told["copies"] = list(self.copies)
        if self.parts:
            told["parts"] = dict(self.parts)
        if self.shares:
            told["shares"] = dict(self.shares)
        if self.vector is not None:
            told["vector"] = self.vector.tolist()
        return {**told, "path": None if self.path is None else str(self.path), **self.payload}

    def _repr_html_(self) -> str:
        from clip_qdrant.pages.cards import card_html

        return card_html(self)


@dataclass(frozen=True, slots=True)
class HitGroup:
    """The best hits of one value of the field that a search is grouped by."""

    value: str | int | bool
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a search was run: seconds by part, how the store found what passes the filter, and what else is of note."""

    seconds: Mapping[str, float]
    index: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the seconds, the index and, where there are any, the notes."""
        told: dict[str, Any] = {"seconds": dict(self.seconds), "index": self.index}
        return {**told, "notes": list(self.notes)} if self.notes else told

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in self.seconds.items())
        return "\n".join((parts, self.index, *self.notes))


class Hits(list[Hit]):
    """The hits of a search, a list. A notebook shows them side by side.

    `reason` says why there are none, where there are none. `groups` are the same hits by the value of the field that
    they were grouped by. `explanation` is there where it was asked for.
    """

    __slots__ = ("explanation", "groups", "reason")

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        *,
        reason: str | None = None,
        groups: Iterable[HitGroup] = (),
        explanation: Explanation | None = None,
    ) -> None:
        super().__init__(hits)
        self.reason = reason
        self.groups = tuple(groups)
        self.explanation = explanation

    @overload
    def __getitem__(self, at: SupportsIndex) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> Hits: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Hit | Hits:
        return Hits(super().__getitem__(at)) if isinstance(at, slice) else super().__getitem__(at)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Each hit as `Hit.to_dict`."""
        return [hit.to_dict() for hit in self]

    def to_dict(self) -> dict[str, Any]:
        """JSON types: the hits and, where there are, the reason, the explanation, and the groups with ids of hits."""
        told: dict[str, Any] = {"hits": self.to_dicts()}
        if self.reason is not None:
            told["reason"] = self.reason
        if self.groups:
            told["groups"] = [{"value": group.value, "hits": [hit.id for hit in group.hits]} for group in self.groups]
        if self.explanation is not None:
            told["explanation"] = self.explanation.to_dict()
        return told

    def _repr_html_(self) -> str:
        from clip_qdrant.pages.cards import grid_html

        return grid_html(self, reason=self.reason)
