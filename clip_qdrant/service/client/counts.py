"""The calls of a client that count images, and label them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.async_face import run_in_thread
from clip_qdrant.collection.facets.histogram import Histogram, Period
from clip_qdrant.collection.facets.values import Facets
from clip_qdrant.collection.options import list_of
from clip_qdrant.service.client.calls import Calls
from clip_qdrant.service.client.decode import decode_classification, decode_facets, decode_histogram
from clip_qdrant.service.client.encode import encode_query

if TYPE_CHECKING:
    from clip_qdrant.collection.edit.classify import Classification
    from clip_qdrant.collection.relevance.scale import MinRelevance
    from clip_qdrant.filters.build import Where
    from clip_qdrant.service.client.encode import SentQuery

__all__ = ["CountCalls"]


class CountCalls(Calls):
    """Counts of images, and of the values and ranges of fields; labels."""

    def __len__(self) -> int:
        return self.count()

    def count(self, where: Where | None = None) -> int:
        """As `ImageCollection.count`."""
        count: int = self._ask("/v1/count", {}, where=where)["count"]
        return count

    def facet(self, field: str, *, where: Where | None = None, limit: int = 20) -> Facets:
        """As `ImageCollection.facet`."""
        return self.facets({field: []}, where=where, limit=limit)[field]

    def facets(
        self, selected: Mapping[str, Sequence[Any]], *, where: Where | None = None, limit: int = 20
    ) -> dict[str, Facets]:
        """As `ImageCollection.facets`."""
        asked = {"fields": {field: list(values) for field, values in selected.items()}, "limit": limit}
        return decode_facets(self._ask("/v1/facets", asked, where=where))

    def histogram(
        self,
        field: str,
        *,
        by: Period | None = None,
        bins: int | None = None,
        edges: Sequence[float] | None = None,
        where: Where | None = None,
    ) -> Histogram:
        """As `ImageCollection.histogram`."""
        asked = {"field": field, "by": by, "bins": bins, "edges": None if edges is None else list(edges)}
        return decode_histogram(self._ask("/v1/histogram", asked, where=where))

    def classify(
        self,
        labels: Mapping[str, str | Sequence[str]],
        *,
        where: Where | None = None,
        write: str | None = None,
        again: bool = False,
        min_relevance: MinRelevance | None = None,
    ) -> Classification:
        """As `ImageCollection.classify`."""
        asked = {
            "labels": _list_prompts(labels),
            "write": write,
            "again": again,
            "min_relevance": min_relevance,
        }
        return decode_classification(self._ask("/v1/classify", asked, where=where))

    def classify_images(
        self, images: Iterable[SentQuery], labels: Mapping[str, str | Sequence[str]]
    ) -> list[dict[str, float]]:
        """For each image, which need not be stored, the likeness to each label (as in `Label`), the nearest first."""
        asked = [encode_query(one) for one in list_of("images", images)]
        if not asked:
            return []
        answer = self._ask("/v1/classify/images", {"images": asked, "labels": _list_prompts(labels)})
        found: list[dict[str, float]] = answer["images"]
        return found

    # The same for async code, each in a thread of asyncio's pool.
    acount = run_in_thread(count)
    afacet = run_in_thread(facet)
    afacets = run_in_thread(facets)
    ahistogram = run_in_thread(histogram)
    aclassify = run_in_thread(classify)
    aclassify_images = run_in_thread(classify_images)


def _list_prompts(labels: Mapping[str, str | Sequence[str]]) -> dict[str, str | list[str]]:
    return {name: one if isinstance(one, str) else list(one) for name, one in labels.items()}
