"""What the tools ask of a collection, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import ValidationError
from qdrant_client import models

from clip_qdrant.errors import FilterError

if TYPE_CHECKING:
    from clip_qdrant.collection.hits import Hit, Hits
    from clip_qdrant.collection.relevance.scale import MinRelevance

__all__ = ["Lookup", "ReadableCollection", "read_filter"]

Period = Literal["year", "month", "day", "hour"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Which images are wanted, as `ImageCollection.search` has it; `filter` is one of Qdrant's own, in JSON."""

    where: str | None = None
    filter: Mapping[str, Any] | None = None
    limit: int = 10
    offset: int = 0
    words: str | None = None
    min_relevance: MinRelevance | None = None
    order_by: str | None = None


class ReadableCollection(Protocol):
    """A collection that is there. `notes` say what a reader should know of it. All methods raise ClipQdrantError."""

    @property
    def name(self) -> str: ...
    @property
    def notes(self) -> Sequence[str]: ...
    def search(self, query: str | None, lookup: Lookup) -> Hits: ...
    def find_similar(self, image: str | bytes, lookup: Lookup) -> Hits:
        """The images most like a stored one, named by its point id or uri, or like the bytes of an image file."""

    def get(self, image: str) -> Hit | None: ...
    def list_hits(self, hits: Sequence[Hit], *, whole: bool) -> list[dict[str, Any]]:
        """Hits as JSON; `whole` with all that is stored."""

    def describe(self, values: int) -> dict[str, Any]:
        """The number of images, and of each field type and the most frequent values or the range, as JSON."""

    def count_values(self, field: str, lookup: Lookup, period: Period | None) -> dict[str, Any]:
        """The `lookup.limit` most frequent values of a field, or its ranges, with the number of images, as JSON."""


def read_filter(given: Mapping[str, Any]) -> models.Filter:
    """A filter in Qdrant's JSON. Raises FilterError."""
    try:
        return models.Filter.model_validate(given)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_url=False)[0]["loc"])
        raise FilterError(
            f"filter takes Qdrant's own, as in {{'must': [{{'key': 'year', 'match': {{'value': 2024}}}}]}}; "
            f"what is at {place or 'its top'} does not fit"
        ) from error
