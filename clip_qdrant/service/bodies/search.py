"""Requests that give hits: search, several searches at once, recommend and discover."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from clip_qdrant.collection.search.examples import Strategy
from clip_qdrant.collection.search.options import MOST_AT_ONCE, Collapse, SearchOptions
from clip_qdrant.collection.text.fusion import TEXT_WEIGHT, Fusion
from clip_qdrant.service.bodies.body import FieldName, Finite, RequestBody, WhereBody
from clip_qdrant.service.bodies.queries import QueryBody

__all__ = [
    "MOST_QUERIES",
    "CollectionName",
    "DiscoverBody",
    "HitsRequest",
    "OptionsBody",
    "PairBody",
    "RecommendBody",
    "Relevance",
    "SearchBatchBody",
    "SearchBody",
]

_MOST_GROUPED = 100  # hits of one group
MOST_QUERIES = 100
_MOST_EXAMPLES = 100
_FARTHEST = 1_000_000
_MOST_CANDIDATES = 10_000
_MOST_FIELDS = 100

CollectionName: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=255, description="The collection; without it, the one that is served.")
]
Relevance: TypeAlias = Annotated[
    Literal["auto"] | Annotated[Finite, Field(ge=0, le=1)],
    Field(description='The least relevance, 0 to 1; "auto" gives likely matches alone.'),
]


class OptionsBody(RequestBody):
    """The options of `ImageCollection.search`, by the same names."""

    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE, description="The most hits, or groups.")] = 10
    offset: Annotated[int, Field(ge=0, le=_FARTHEST, description="Leave out the first of them.")] = 0
    score_threshold: Annotated[Finite, Field(ge=-1, le=1, description="The least cosine similarity.")] | None = None
    min_relevance: Relevance | None = None
    text: (
        Annotated[
            bool | Annotated[str, Field(min_length=1, max_length=65536)],
            Field(description="Look for words too: those of the query (true), or others."),
        ]
        | None
    ) = None
    text_fields: (
        Annotated[
            dict[FieldName, Annotated[Finite, Field(gt=0)]] | list[FieldName],
            Field(
                min_length=1, max_length=_MOST_FIELDS, description="The fields to look for words in, or their weights."
            ),
        ]
        | None
    ) = None
    text_weight: Annotated[Finite, Field(ge=0, le=1, description="0 is likeness alone, 1 words alone.")] = TEXT_WEIGHT
    fusion: Annotated[Fusion, Field(description="How likeness and words make one order.")] = "sum"
    order_by: (
        Annotated[
            FieldName, Field(description="Order by a field, such as `taken_at`; `-taken_at` is the newest first.")
        ]
        | None
    ) = None
    candidates: (
        Annotated[
            int,
            Field(ge=1, le=_MOST_CANDIDATES, description="How many of the best order_by, diversity, collapse look at."),
        ]
        | None
    ) = None
    diversity: (
        Annotated[Finite, Field(ge=0, le=1, description="0 (the most relevant) to 1 (the most different).")] | None
    ) = None
    collapse: Annotated[Collapse, Field(description="Show one image of the same bytes, shot or look.")] | None = None
    group_by: Annotated[FieldName, Field(description="The best hits of each value of a field.")] | None = None
    group_size: Annotated[int, Field(ge=1, le=_MOST_GROUPED, description="The most hits of a group.")] = 3
    exact: Annotated[bool, Field(description="Compare all images, also where there is an index.")] = False
    ef: Annotated[int, Field(ge=1, le=100_000, description="How far an index looks.")] | None = None
    rescore: Annotated[bool, Field(description="Compare whole vectors where they are quantized.")] | None = None
    oversampling: (
        Annotated[Finite, Field(ge=1, le=1000, description="How many more quantized vectors are looked at.")] | None
    ) = None
    payload: Annotated[
        bool | Annotated[list[FieldName], Field(max_length=_MOST_FIELDS)],
        Field(description="The fields that hits carry: all (true), none but the uri (false), or these."),
    ] = True
    vectors: Annotated[bool, Field(description="Give the vectors of the hits too.")] = False
    explain: Annotated[bool, Field(description="Tell where the time went, and what each term gave.")] = False

    def given(self) -> dict[str, Any]:
        """Each option by its name."""
        return {name: getattr(self, name) for name in OptionsBody.model_fields}

    def options(self) -> SearchOptions:
        """Raises QueryError for options that do not go together."""
        return SearchOptions(**self.given())


class HitsRequest(OptionsBody):
    """What every request for hits has: where to look, and how."""

    collection: CollectionName | None = None
    where: WhereBody | None = None


class SearchBody(HitsRequest):
    """A search; without a query it lists images. Files of a form that no term names are added to the query."""

    query: QueryBody | None = None


class SearchBatchBody(HitsRequest):
    """Several searches with the same filter and options."""

    queries: Annotated[list[QueryBody], Field(min_length=1, max_length=MOST_QUERIES)]


class ExamplesRequest(HitsRequest):
    """What requests by examples have: the scores may be others than cosine similarities."""

    score_threshold: (
        Annotated[Finite, Field(description='The least score: a cosine similarity with the strategy "average" alone.')]
        | None
    ) = None


class RecommendBody(ExamplesRequest):
    """What is like the positive examples and unlike the negative ones."""

    positive: Annotated[list[QueryBody], Field(max_length=_MOST_EXAMPLES)] | None = None
    negative: Annotated[list[QueryBody], Field(max_length=_MOST_EXAMPLES)] | None = None
    strategy: Annotated[
        Strategy,
        Field(description="Compare with the mean of the examples, with the nearest of them, or with all of them."),
    ] = "average"


class PairBody(RequestBody):
    """Near to this, rather than to that."""

    near: QueryBody
    far: QueryBody


class DiscoverBody(ExamplesRequest):
    """What lies on the near side of each pair, those most like the target first."""

    target: QueryBody | None = None
    context: Annotated[list[PairBody], Field(min_length=1, max_length=_MOST_EXAMPLES)]
