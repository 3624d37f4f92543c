"""Ranking by words, alone or together with a vector: what is looked for, where, and how the two come together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from qdrant_client import models
from qdrant_client.http.models import QueryResponse  # models.QueryResponse is another one, of fastembed

from clip_qdrant.collection.query import Query
from clip_qdrant.collection.relevance.scale import RelevanceScale
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.collection.search.ranking import Ranking
from clip_qdrant.collection.search.request import ROUNDING, find_threshold, leave_out, search_params
from clip_qdrant.collection.strict_mode import StrictMode
from clip_qdrant.collection.text.fields import choose_fields
from clip_qdrant.collection.text.fusion import CANDIDATES, fuse
from clip_qdrant.collection.text.vectors import TEXT_VECTOR, make_query
from clip_qdrant.errors import QueryError, shorten
from clip_qdrant.fields.types import FieldType
from clip_qdrant.filters.build import resolve_field

if TYPE_CHECKING:
    from clip_qdrant.collection.reader import CollectionReader

__all__ = ["fills_a_list", "find_words", "rank_with_words"]

_MOST_CANDIDATES = 10_000


def find_words(query: Query | None, options: SearchOptions, reader: CollectionReader) -> models.SparseVector | None:
    """What to look for by words, and where; None for a search without words.

    Raises QueryError if there is nothing to look for, FilterError for a field that is not there or has no words.
    """
    if options.text is None or options.text is False:
        return None
    text = _join_texts(query) if options.text is True else options.text
    fields = choose_fields(options.text_fields, lambda name: reader.resolve(lambda known: _find_field(name, known)))
    found = make_query(text, fields)
    if found is None and query is None:
        raise QueryError(f"there is no word in {shorten(text, 80)!r} to look for")
    return found


def _find_field(name: str, known: Mapping[str, FieldType]) -> tuple[str, FieldType]:
    key = resolve_field(name, known)
    return key, known[key]


def _join_texts(query: Query | None) -> str:
    """The texts that a query adds up."""
    texts = [str(term.value) for term in query.terms if term.kind == "text" and term.weight > 0] if query else []
    if not texts:
        raise QueryError("text=True looks for the words of the query, and it has no text; give the words: text='…'")
    return " ".join(texts)


def rank_with_words(
    ranking: Ranking,
    words: models.SparseVector,
    selection: models.Filter | None,
    options: SearchOptions,
    scale: RelevanceScale,
    reader: CollectionReader,
) -> Ranking:
    """The ranking by the words alone, where it has no query, or by both, among those that pass the filter.

    For both the two lists are read first, in one call: scores of one kind tell nothing of the other, so each list says
    how far its scores reach. What a threshold keeps out of the list by likeness is found if it has the words.
    """
    if ranking.vector is None:
        query = models.NearestQuery(nearest=words)
        return replace(ranking, by="words", query=query, using=TEXT_VECTOR)
    vector, chosen, least = (
        ranking.vector.tolist(),
        leave_out(selection, ranking.without),
        find_threshold(options, scale),
    )
    near, worded = _read_lists(vector, words, chosen, least, options, reader)
    fused, prefetch = fuse(vector, words, near, worded, fusion=options.fusion, text_weight=options.text_weight)
    found: dict[str, dict[str, float]] = {}
    for name, points in (("likeness", near), ("words", worded)):
        for point in points:
            found.setdefault(str(point.id), {})[name] = point.score
    return replace(ranking, by="both", query=fused, prefetch=prefetch, found=found)


def _read_lists(
    vector: list[float],
    words: models.SparseVector,
    selection: models.Filter | None,
    least: float | None,
    options: SearchOptions,
    reader: CollectionReader,
) -> tuple[list[models.ScoredPoint], list[models.ScoredPoint]]:
    """The ids and scores of the nearest images, and of those with the words, best first."""

    def ask(strict: StrictMode) -> list[QueryResponse]:
        limit = _count_candidates(options)
        limit = min(limit, strict.page or limit)
        near = models.QueryRequest(
            query=models.NearestQuery(nearest=vector),
            filter=selection,
            params=None if reader.description.compares_all else search_params(options),
            limit=limit,
            score_threshold=None if least is None else least - ROUNDING,
            with_payload=False,
        )
        nearest = models.NearestQuery(nearest=words)
        worded = models.QueryRequest(
            query=nearest, using=TEXT_VECTOR, filter=selection, limit=limit, with_payload=False
        )
        return list(reader.client.query_batch_points(reader.name, requests=[near, worded]))

    near, worded = reader.description.ask_within_limits(ask, what=f"searching collection {reader.name!r}")
    return near.points, worded.points


def fills_a_list(ranking: Ranking, options: SearchOptions) -> bool:
    """Whether a list of a ranking by both has as many images as it may, so that there may be more for it."""
    found, most = ranking.found.values(), _count_candidates(options)
    return any(sum(kind in parts for parts in found) >= most for kind in ("likeness", "words"))


def _count_candidates(options: SearchOptions) -> int:
    """How many images of each list come together: the same for all pages, as each is placed by the whole lists."""
    return options.candidates or min(max(CANDIDATES, options.limit), _MOST_CANDIDATES)
