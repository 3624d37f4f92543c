"""Client: a served collection in Python. What `ImageCollection` has is here by the same names, and gives the same.

with Client("http://localhost:8080", collection="photos") as photos:
    photos.search("a cat asleep", where="year >= 2022")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from clip_qdrant.collection.async_face import run_in_thread
from clip_qdrant.collection.facets.histogram import Histogram, Period
from clip_qdrant.collection.facets.values import Facets
from clip_qdrant.collection.hits import Hits
from clip_qdrant.collection.options import list_of
from clip_qdrant.collection.search.examples import Strategy
from clip_qdrant.collection.search.options import Collapse, SearchOptions
from clip_qdrant.collection.text.fusion import TEXT_WEIGHT, Fusion
from clip_qdrant.errors import ServiceError
from clip_qdrant.service.bodies.ingest import IngestBody, IngestRunBody
from clip_qdrant.service.client.decode import (
    decode_classification,
    decode_facets,
    decode_histogram,
    decode_hits,
)
from clip_qdrant.service.client.encode import encode_query, encode_where
from clip_qdrant.service.client.transport import Transport

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

    from clip_qdrant.collection.edit.classify import Classification
    from clip_qdrant.collection.relevance.scale import MinRelevance
    from clip_qdrant.collection.text.fields import TextFields
    from clip_qdrant.filters.build import Where
    from clip_qdrant.service.client.encode import SentQuery

__all__ = ["Client"]


class Client:
    """A collection behind `clip-qdrant serve`; without a name the one that the service serves.

    `timeout` is how many seconds an answer may take, `patience` for how many a request is made again while the service
    is busy or not there yet, after the pauses that it asks for. `http` is an httpx.Client to use, with proxies or
    certificates of its own. Images that a query names are files of this computer, and are sent.

    Every method may raise what the same method of ImageCollection does, and ServiceError: Unauthorized, Forbidden,
    Overloaded, … May be used from several threads; async code has the methods as `asearch` and so on.
    """

    def __init__(
        self,
        url: str,
        *,
        collection: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        patience: float = 30.0,
        http: httpx.Client | None = None,
    ) -> None:
        self.name = collection
        self._transport = Transport(url, api_key=api_key, timeout=timeout, patience=patience, http=http)

    def __repr__(self) -> str:
        return f"Client({self._transport.shown_url!r}, collection={self.name!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

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
            "context": [
                {"near": encode_query(near), "far": encode_query(far)} for near, far in list_of("context", context)
            ],
        }
        return decode_hits(self._ask("/v1/discover", asked, where=where, options=options))

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
        """For each image, which need not be stored, the cosine similarity to each label, the nearest first."""
        asked = [encode_query(one) for one in list_of("images", images)]
        if not asked:
            return []
        answer = self._ask("/v1/classify/images", {"images": asked, "labels": _list_prompts(labels)})
        found: list[dict[str, float]] = answer["images"]
        return found

    def start_ingest(self, request: str | IngestBody) -> IngestRunBody:
        """Starts a run of ingestion in the service, from a location that it may read; gives it as it begins."""
        body = IngestBody(source=request) if isinstance(request, str) else request
        asked = {"collection": self.name, **body.model_dump(exclude_defaults=True)}
        return IngestRunBody.model_validate(self._transport.send("POST", "/v1/ingest", json=_without_none(asked)))

    def follow_ingest(self, run: str) -> Iterator[IngestRunBody]:
        """The run of this id, whenever something has happened, until it has ended."""
        with self._transport.stream(f"/v1/ingest/{quote(run, safe='')}/events") as lines:
            for line in lines:
                if line.startswith("data:"):
                    yield IngestRunBody.model_validate_json(line.removeprefix("data:"))

    def ingest(self, request: str | IngestBody) -> IngestRunBody:
        """Starts a run, and waits for its end. Raises ServiceError if it fails."""
        run = self.start_ingest(request)
        while run.state == "running":  # a proxy may cut what is silent
            for told in self.follow_ingest(run.id):
                run = told
        if run.error is not None:
            raise ServiceError(f"run {run.id} from {run.source} into {run.collection!r} failed: {run.error}")
        return run

    def cancel_ingest(self, run: str) -> IngestRunBody:
        """Asks the run of this id to end. What it has in hand is stored."""
        path = f"/v1/ingest/{quote(run, safe='')}/cancel"
        return IngestRunBody.model_validate(self._transport.send("POST", path))

    def read_ingest_report(self, run: str) -> dict[str, Any]:
        """The whole report of the run of this id, with each object that is quarantined."""
        report: dict[str, Any] = self._transport.send("GET", f"/v1/ingest/{quote(run, safe='')}/report")
        return report

    # The same for async code, each in a thread of asyncio's pool.
    asearch = run_in_thread(search)
    asearch_batch = run_in_thread(search_batch)
    arecommend = run_in_thread(recommend)
    adiscover = run_in_thread(discover)
    afacet = run_in_thread(facet)
    afacets = run_in_thread(facets)
    ahistogram = run_in_thread(histogram)
    acount = run_in_thread(count)
    aclassify = run_in_thread(classify)
    aclassify_images = run_in_thread(classify_images)
    aingest = run_in_thread(ingest)

    def _ask(
        self,
        path: str,
        asked: Mapping[str, Any],
        *,
        where: Where | None = None,
        options: SearchOptions | None = None,
    ) -> Any:
        body = {"collection": self.name, **asked, "where": encode_where(where), **_tell_options(options)}
        return self._transport.send("POST", path, json=_without_none(body))


def _list_prompts(labels: Mapping[str, str | Sequence[str]]) -> dict[str, str | list[str]]:
    return {name: one if isinstance(one, str) else list(one) for name, one in labels.items()}


def _tell_options(options: SearchOptions | None) -> dict[str, Any]:
    """Those that are not as they always are."""
    if options is None:
        return {}
    usual = SearchOptions()
    given = {name: getattr(options, name) for name in SearchOptions.__dataclass_fields__}
    return {name: value for name, value in given.items() if value != getattr(usual, name)}


def _without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
