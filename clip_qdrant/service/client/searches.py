"""The calls of a client that find images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from clip_qdrant.collection.async_face import run_in_thread
from clip_qdrant.collection.hits import Hit, Hits
from clip_qdrant.collection.options import list_of
from clip_qdrant.collection.points import id_of
from clip_qdrant.collection.search.examples import Strategy
from clip_qdrant.collection.search.options import Collapse, SearchOptions
from clip_qdrant.collection.text.fusion import TEXT_WEIGHT, Fusion
from clip_qdrant.errors import PointNotFound, QueryError, shorten
from clip_qdrant.service.client.calls import Calls
from clip_qdrant.service.client.decode import decode_hit, decode_hits
from clip_qdrant.service.client.encode import encode_query

if TYPE_CHECKING:
    import os

    from clip_qdrant.collection.relevance.scale import MinRelevance
    from clip_qdrant.collection.text.fields import TextFields
    from clip_qdrant.filters.build import Where
    from clip_qdrant.service.client.encode import SentQuery

__all__ = ["SearchCalls"]


class SearchCalls(Calls):
    """Searches, and stored images by their names."""

    def search(
        self,
        query: SentQuery | None = None,
        *,
        where: Where | None = None,
        limit: int = 10,
        offset: int = 0,
        score_threshold: float | None = None,
        min_relevance: MinRelevance | None = None,
        text: bool | str | None = None,
        text_fields: TextFields | None = None,
        text_weight: float = TEXT_WEIGHT,
        fusion: Fusion = "sum",
        order_by: str | None = None,
        candidates: int | None = None,
        diversity: float | None = None,
        collapse: Collapse | None = None,
        group_by: str | None = None,
        group_size: int = 3,
        exact: bool = False,
        ef: int | None = None,
        rescore: bool | None = None,
        oversampling: float | None = None,
        payload: bool | Sequence[str] = True,
        vectors: bool = False,
        explain: bool = False,
    ) -> Hits:
        """As `ImageCollection.search`. A query may also be its JSON: {"url": "https://…"}, or a list of such terms."""
        options = SearchOptions(
            limit=limit,
            offset=offset,
            score_threshold=score_threshold,
            min_relevance=min_relevance,
            text=text,
            text_fields=text_fields,
            text_weight=text_weight,
            fusion=fusion,
            order_by=order_by,
            candidates=candidates,
            diversity=diversity,
            collapse=collapse,
            group_by=group_by,
            group_size=group_size,
            exact=exact,
            ef=ef,
            rescore=rescore,
            oversampling=oversampling,
            payload=payload,
            vectors=vectors,
            explain=explain,
        )
        asked = None if query is None else encode_query(query)
        return decode_hits(self._ask("/v1/search", {"query": asked}, where=where, options=options))

    def search_batch(
        self, queries: Iterable[SentQuery], *, where: Where | None = None, options: SearchOptions | None = None
    ) -> list[Hits]:
        """As `ImageCollection.search_batch`."""
        asked = [encode_query(query) for query in list_of("queries", queries)]
        if not asked:
            return []
        answer = self._ask("/v1/search/batch", {"queries": asked}, where=where, options=options)
        return [decode_hits(one) for one in answer["results"]]

    def recommend(
        self,
        positive: Iterable[SentQuery],
        negative: Iterable[SentQuery] = (),
        *,
        strategy: Strategy = "average",
        where: Where | None = None,
        options: SearchOptions | None = None,
    ) -> Hits:
        """As `ImageCollection.recommend`."""
        asked = {
            "positive": [encode_query(one) for one in list_of("positive", positive)],
            "negative": [encode_query(one) for one in list_of("negative", negative)],
            "strategy": strategy,
        }
        return decode_hits(self._ask("/v1/recommend", asked, where=where, options=options))

    def discover(
        self,
        target: SentQuery | None,
        context: Iterable[tuple[SentQuery, SentQuery]],
        *,
        where: Where | None = None,
        options: SearchOptions | None = None,
    ) -> Hits:
        """As `ImageCollection.discover`."""
        asked = {
            "target": None if target is None else encode_query(target),
            "context": [_encode_pair(pair) for pair in list_of("context", context)],
        }
        return decode_hits(self._ask("/v1/discover", asked, where=where, options=options))

    def get(self, image: str | os.PathLike[str]) -> Hit | None:
        """As `ImageCollection.get`."""
        try:
            told = self._transport.send("GET", f"/v1/points/{id_of(image)}", params={"collection": self.name})
        except PointNotFound:
            return None
        return decode_hit(told)

    def read_image(self, image: Hit | str | os.PathLike[str]) -> bytes:
        """The file of a stored image, as it lies where the service has it from. Raises NotServed where it has not."""
        return self._transport.fetch("GET", self._name_file("images", image), params={"collection": self.name}).content

    def read_thumbnail(self, image: Hit | str | os.PathLike[str], *, size: int | None = None) -> bytes:
        """A JPEG of a stored image, of `size` pixels at most."""
        wanted = {"collection": self.name, "size": size}
        return self._transport.fetch("GET", self._name_file("thumbnails", image), params=wanted).content

    def _name_file(self, kind: str, image: Hit | str | os.PathLike[str]) -> str:
        return f"/v1/{kind}/{image.id if isinstance(image, Hit) else id_of(image)}"

    # The same for async code, each in a thread of asyncio's pool.
    asearch = run_in_thread(search)
    asearch_batch = run_in_thread(search_batch)
    arecommend = run_in_thread(recommend)
    adiscover = run_in_thread(discover)
    aget = run_in_thread(get)


def _encode_pair(pair: Any) -> dict[str, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise QueryError(f"context takes pairs (near to this, rather than to that), not {shorten(repr(pair), 80)}")
    return {"near": encode_query(pair[0]), "far": encode_query(pair[1])}
