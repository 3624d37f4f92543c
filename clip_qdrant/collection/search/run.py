"""Searcher: runs searches over a collection, from queries to hits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from clip_qdrant.calibration.rounding import show_relevance
from clip_qdrant.collection.hits import Explanation, Hit, Hits
from clip_qdrant.collection.points import dense_vector, id_of
from clip_qdrant.collection.query import Query, QueryVector, evaluate_queries
from clip_qdrant.collection.relevance.scale import RelevanceScale, measure_text_share
from clip_qdrant.collection.search.candidates import choose_among_best
from clip_qdrant.collection.search.explain import explain_index
from clip_qdrant.collection.search.groups import group_hits
from clip_qdrant.collection.search.listing import list_images
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.collection.search.payload import choose_payload
from clip_qdrant.collection.search.ranking import Ranking
from clip_qdrant.collection.search.request import Clock, StoreRequest
from clip_qdrant.collection.search.words import fills_a_list, find_words, rank_with_words
from clip_qdrant.errors import QueryError, shorten
from clip_qdrant.filters.build import Where

if TYPE_CHECKING:
    from clip_qdrant.calibration.curves import Calibration
    from clip_qdrant.collection.reader import CollectionReader
    from clip_qdrant.embedder_protocol import Embedder

__all__ = ["Searcher", "query_of", "read_pair", "to_query"]

_FAR = 10_000  # an offset from which on it is asked first whether so many images are there


class Searcher:
    """Searches the collection of a reader with the vectors of an embedder. May be called from several threads."""

    def __init__(self, reader: CollectionReader, embedder: Embedder) -> None:
        self._reader = reader
        self._embedder = embedder

    @property
    def calibration(self) -> Calibration | None:
        """That of the collection, or else of the embedder, which need not have one."""
        return self._reader.description.calibration or getattr(self._embedder, "calibration", None)

    def search(self, query: Any, *, where: Where | None, options: SearchOptions) -> Hits:
        """See `ImageCollection.search`."""
        wanted, clock = to_query(query), Clock()
        _check_cosine(options)  # also where there is no collection yet
        return self._reader.read_if_there(
            lambda: self._run(self._make_rankings([wanted], options, clock)[0], where, options, clock),
            otherwise=self._find_no_collection(),
        )

    def search_batch(self, queries: Sequence[Any], *, where: Where | None, options: SearchOptions) -> list[Hits]:
        """See `ImageCollection.search_batch`."""
        wanted, clock = [to_query(query) for query in queries], Clock()
        _check_cosine(options)
        if not wanted:
            return []
        return self._reader.read_if_there(
            lambda: self._run_batch(self._make_rankings(wanted, options, clock), where, options, clock),
            otherwise=[self._find_no_collection() for _ in wanted],
        )

    def rank(self, ranking: Ranking, *, where: Where | None, options: SearchOptions) -> Hits:
        """The hits of a ranking among the images that `where` holds for."""
        return self._reader.read_if_there(
            lambda: self._run(ranking, where, options, Clock()), otherwise=self._find_no_collection()
        )

    def rank_by(
        self,
        make: Callable[[Callable[[Sequence[Query]], Sequence[QueryVector]]], Ranking],
        *,
        where: Where | None,
        options: SearchOptions | None,
    ) -> Hits:
        """The hits of the ranking that `make` makes; it is given what embeds queries, all in one batch."""
        if options is not None and options.text:
            raise QueryError("text is for search: examples are compared by vectors alone; leave it out")
        return self._reader.read_if_there(
            lambda: self._run(
                make(lambda queries: evaluate_queries(queries, self._embedder, self.fetch_vectors)),
                where,
                options or SearchOptions(),
                Clock(),
            ),
            otherwise=self._find_no_collection(),
        )

    def fetch_vectors(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """The stored vectors of images by uri, path or point id, float32 (dim,); what is not there is left out."""
        ids = {name: id_of(name) for name in names}
        records = self._reader.retrieve(list(set(ids.values())), with_vectors=True)
        found = {str(record.id): dense_vector(record.vector) for record in records}
        return {name: vector for name, key in ids.items() if (vector := found.get(key)) is not None}

    def _make_rankings(self, queries: Sequence[Query | None], options: SearchOptions, clock: Clock) -> list[Ranking]:
        """A ranking for each query, by the order of ids for None: all are embedded at once."""
        words = [find_words(query, options, self._reader) for query in queries]
        with clock.measure("embedding"):
            vectors = iter(evaluate_queries([one for one in queries if one], self._embedder, self.fetch_vectors))
        rankings = []
        for query, sought in zip(queries, words, strict=True):
            if query is None:
                rankings.append(Ranking(query=None, words=sought))
                continue
            made = next(vectors)
            without = tuple(id_of(name) for name in query.names())
            texts = measure_text_share(query.terms)
            ranking = Ranking.by_vector(
                made.vector, without=without, parts=made.parts, texts=texts, strength=made.strength
            )
            rankings.append(replace(ranking, words=sought) if sought else ranking)
        return rankings

    def _make_request(
        self, ranking: Ranking, selection: models.Filter | None, options: SearchOptions, clock: Clock
    ) -> StoreRequest:
        if ranking.query is None:
            _check_listing(options, ranking)
        _check_least(options, ranking)
        payload = choose_payload(options.payload, self._reader)
        scale = RelevanceScale(self.calibration, ranking.texts, ranking.strength)
        if ranking.words is not None:
            with clock.measure("words"):
                ranking = rank_with_words(ranking, ranking.words, selection, options, scale, self._reader)
        return StoreRequest(self._reader, ranking, selection, options, payload=payload, scale=scale, clock=clock)

    def _run(self, ranking: Ranking, where: Where | None, options: SearchOptions, clock: Clock) -> Hits:
        with clock.measure("filter"):
            selection = self._reader.build_filter(where)
        return self._finish(self._make_request(ranking, selection, options, clock))

    def _finish(self, request: StoreRequest, points: Sequence[models.ScoredPoint] | None = None) -> Hits:
        """The hits of a request; of the `points` that it gave, where it is answered already."""
        options = request.options
        if points is not None:
            hits = Hits(request.make_hits(points))
        elif options.offset >= _FAR and options.offset >= self._reader.count(request.selection):
            hits = Hits()
        elif request.ranking.query is None:
            hits = Hits(list_images(request))
        elif options.group_by is not None:
            hits = group_hits(request)
        elif options.order_by is not None or options.collapse is not None:
            hits = Hits(choose_among_best(request))
        else:
            hits = Hits(request.read_hits(options.limit, options.offset))
        if request.ranking.query is not None:
            self._check_embedder(hits)
        if not hits and hits.reason is None:
            hits.reason = self._explain_empty(request)
        if options.explain:
            index = explain_index(self._reader, request.selection, options)
            hits.explanation = Explanation(request.clock.seconds, index)
        return hits

    def _check_embedder(self, hits: Sequence[Hit]) -> None:
        """Raises FingerprintMismatch if another embedder made the collection anew since it was opened: the images tell.

        Nothing is asked where all are of this one, as they are but then.
        """
        own = self._embedder.fingerprint
        if any(hit.payload.get("fingerprint", own) != own for hit in hits):
            self._reader.description.open()

    def _run_batch(
        self, rankings: Sequence[Ranking], where: Where | None, options: SearchOptions, clock: Clock
    ) -> list[Hits]:
        with clock.measure("filter"):
            selection = self._reader.build_filter(where)
        requests = [self._make_request(ranking, selection, options, clock) for ranking in rankings]
        many_calls = options.order_by or options.group_by or options.collapse or options.offset >= _FAR
        page = self._reader.description.strict.page
        if many_calls or (page is not None and options.limit > page) or any(one.query is None for one in rankings):
            return [self._finish(request) for request in requests]
        with clock.measure("store"):
            answers = self._reader.description.ask(
                lambda: self._reader.client.query_batch_points(
                    self._reader.name, requests=[request.as_model() for request in requests]
                ),
                what=f"searching collection {self._reader.name!r}",
            )
        return [self._finish(request, one.points) for request, one in zip(requests, answers, strict=True)]

    def _find_no_collection(self) -> Hits:
        name = self._reader.name
        return Hits(reason=f"there is no collection {name!r} yet; ingesting makes it (clip-qdrant ingest, or add())")

    def _explain_empty(self, request: StoreRequest) -> str:
        number, options = self._reader.count(request.selection), request.options
        if not number:
            return self._tell_none_selected(request)
        if options.offset and (options.group_by is None or options.offset >= max(_FAR, number)):
            return f"the offset is {options.offset}, and {self._tell_most(request, number)}"
        if request.ranking.by in ("words", "both"):
            near = " or is near enough" if request.ranking.by == "both" else ""
            return f"none of {number} images has any of these words{near}{_tell_group(options)}"
        if request.threshold is None:
            return f"none of {number} images has a value of {options.group_by}"
        if options.min_relevance is None:
            return f"none of {number} images has a score of at least {options.score_threshold}{_tell_group(options)}"
        return f"none of {number} images is likely to match{self._tell_best(request)}"

    def _tell_none_selected(self, request: StoreRequest) -> str:
        """Why there is nothing to compare."""
        if request.ranking.without and self._reader.count(request.among):
            where = "there is no image" if request.among is None else "the filter selects no image"
            return f"{where} but those that the query names, which are left out"
        return "the collection is empty" if request.among is None else "the filter selects no image"

    def _tell_most(self, request: StoreRequest, number: int) -> str:
        """Why there is nothing beyond the offset, where `number` images pass the filter."""
        options, ranking = request.options, request.ranking
        if options.group_by is not None:
            return f"there are no more than {number} images to group"
        bound = self._find_bound(request)
        if bound is not None:
            larger = "a larger limit or candidates looks" if options.candidates is None else "larger candidates look"
            return f"no more than the {bound} best are looked at; {larger} at more"
        if request.threshold is not None or ranking.by in ("words", "both"):
            return f"no more of {number} images match"
        copies = "" if options.collapse is None else ", of which copies are shown once"
        return f"there are no more than {number} images{copies}"

    def _find_bound(self, request: StoreRequest) -> int | None:
        """How many of the best are looked at, where there are more than that; None where it is all that match."""
        options, ranking, most = request.options, request.ranking, request.most_looked_at
        if request.is_diverse:  # chosen among those: the likeness alone tells whether there are more
            options = replace(options, diversity=None, candidates=None)
            request = StoreRequest(
                self._reader,
                ranking,
                request.selection,
                options,
                payload=False,
                scale=request.scale,
                clock=request.clock,
            )
        if most is not None and request.read_page(1, most, payload=False):
            return most
        return len(ranking.found) if ranking.by == "both" and fills_a_list(ranking, options) else None

    def _tell_best(self, request: StoreRequest) -> str:
        """What relevance was asked for, and what the nearest image has."""
        asked, least = request.options.min_relevance, request.options.score_threshold
        assert asked is not None, "there was a threshold of relevance"
        options = SearchOptions(limit=1)
        best = self._finish(self._make_request(request.ranking, request.selection, options, Clock()))
        likely = best[0].relevance if best else None
        told = "" if likely is None else f"; the best has {show_relevance(likely)}"
        score = "" if least is None else f" and a score of at least {least}"
        group = _tell_group(request.options)
        cutoff = f"{request.scale.find_cutoff(asked):.3f}" if asked == "auto" else f"{asked:g}"
        return f", with a relevance of at least {cutoff}{score}{group}{told}"


def _tell_group(options: SearchOptions) -> str:
    return "" if options.group_by is None else f", and a value of {options.group_by}"


def to_query(query: Any) -> Query | None:
    """What `ImageCollection.search` takes, as a Query: a `str` is a text, floats are a vector, the rest is an image."""
    if query is None or isinstance(query, Query):
        return query
    if isinstance(query, str):
        return Query.text(query)
    if isinstance(query, list | tuple) or (isinstance(query, np.ndarray) and query.dtype.kind == "f"):
        return Query.vector(query)
    return Query.image(query)


def query_of(example: Any) -> Query:
    """An example as a Query; QueryError for None."""
    query = to_query(example)
    if query is None:
        raise QueryError("None is no example; give a text, an image, a vector or a Query")
    return query


def read_pair(pair: Any) -> tuple[Query, Query]:
    """What to be near to, and what to be far from. Raises QueryError for what is no pair."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise QueryError(f"context takes pairs (near to this, rather than to that), not {shorten(repr(pair), 80)}")
    return query_of(pair[0]), query_of(pair[1])


def _check_least(options: SearchOptions, ranking: Ranking) -> None:
    """Raises QueryError for a least score or relevance that the scores of a ranking cannot have."""
    if ranking.by == "examples":
        if options.min_relevance is not None:
            raise QueryError(
                f"min_relevance={options.min_relevance!r} is for scores that are cosine similarities, and those of "
                'discover and of strategy="best" and "sum" are none, so they have no relevance: leave min_relevance '
                'out, or recommend with strategy="average"'
            )
    else:
        _check_cosine(options)


def _check_cosine(options: SearchOptions) -> None:
    if options.score_threshold is not None and not -1 <= options.score_threshold <= 1:
        raise QueryError(f"score_threshold must be a cosine similarity, -1 to 1, not {options.score_threshold!r}")


def _check_listing(options: SearchOptions, ranking: Ranking) -> None:
    """Raises QueryError for options that mean nothing where nothing is compared, or only words are."""
    of_words = ranking.words is not None
    for name in ("score_threshold", "min_relevance", *(() if of_words else ("diversity", "collapse", "group_by"))):
        if getattr(options, name) is not None:
            what = " by likeness" if of_words else ""
            raise QueryError(f"{name} is for the images that a query finds{what}: give a query, or leave {name} out")
