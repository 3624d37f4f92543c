"""Requests that count, and label: facets, histograms, zero-shot labels; and their answers."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from clip_qdrant.collection.facets.histogram import Period
from clip_qdrant.service.bodies.body import FieldName, Finite, RequestBody, ResponseBody, WhereBody
from clip_qdrant.service.bodies.queries import QueryBody
from clip_qdrant.service.bodies.search import MOST_QUERIES, CollectionName, Relevance

__all__ = [
    "ClassifyAnswer",
    "ClassifyBody",
    "CountAnswer",
    "CountBody",
    "FacetsAnswer",
    "FacetsBody",
    "HistogramAnswer",
    "HistogramBody",
    "LabelImagesAnswer",
    "LabelImagesBody",
]

_MOST_FIELDS = 50
_MOST_CHOSEN = 1000
_MOST_LABELS = 1000
_MOST_PROMPTS = 100


class CountBody(RequestBody):
    """Counts images."""

    collection: CollectionName | None = None
    where: WhereBody | None = None


class CountAnswer(ResponseBody):
    """How many there are. `exact` is false where a Qdrant server estimates counts."""

    count: int
    exact: bool


class FacetsBody(RequestBody):
    """Counts the values of fields. Each is counted among the images that fit what is chosen of all the others."""

    collection: CollectionName | None = None
    fields: Annotated[
        dict[FieldName, Annotated[list[str | int | bool], Field(max_length=_MOST_CHOSEN)]],
        Field(
            min_length=1,
            max_length=_MOST_FIELDS,
            description="The chosen values of each field; an empty list chooses none, and restricts nothing.",
        ),
    ]
    where: WhereBody | None = None
    limit: Annotated[int, Field(ge=1, le=10_000, description="The most values of each field.")] = 20


class ValueBody(ResponseBody):
    """A value, and how many images have it."""

    value: str | int | bool
    count: int


class FacetBody(ResponseBody):
    """The most frequent values of a field, and how many more there are; null: too many to count."""

    values: list[ValueBody]
    more_values: int | None
    more_images: int


class FacetsAnswer(ResponseBody):
    """The values of each field. `exact` is false where a Qdrant server estimates counts."""

    facets: dict[str, FacetBody]
    exact: bool


class HistogramBody(RequestBody):
    """Counts the ranges of a field: dates by a period, numbers in bins of equal width or between edges."""

    collection: CollectionName | None = None
    field: FieldName
    by: Period | None = None
    bins: Annotated[int, Field(ge=1, le=2000)] | None = None
    edges: Annotated[list[Finite], Field(min_length=2, max_length=2001)] | None = None
    where: WhereBody | None = None


class BinBody(ResponseBody):
    """The images from start up to end; of the last range of numbers with the end."""

    label: str
    start: float | str
    end: float | str
    count: int


class HistogramAnswer(ResponseBody):
    """The ranges in order. `missing` images have no value, those `outside` one in none of the ranges."""

    bins: list[BinBody]
    missing: int
    outside: int
    exact: bool


_Labels: TypeAlias = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=1024)],
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=_MOST_PROMPTS)],
    ],
    Field(min_length=2, max_length=_MOST_LABELS, description="The prompts of each label, one or several."),
]


class ClassifyBody(RequestBody):
    """Gives each image the label whose prompts it is nearest to, and keeps it in a field if `write` names one."""

    collection: CollectionName | None = None
    labels: _Labels
    where: WhereBody | None = None
    write: Annotated[FieldName, Field(description="The metadata field that keeps the label.")] | None = None
    again: Annotated[bool, Field(description="Label images anew that have the field already.")] = False
    min_relevance: Relevance | None = None
    images: Annotated[
        int, Field(ge=0, le=10_000, description="How many images to name with their labels, at most.")
    ] = 0


class LabelImagesBody(RequestBody):
    """Compares images with labels. Files of a form that no term names come after those of `images`."""

    collection: CollectionName | None = None
    labels: _Labels
    images: (
        Annotated[
            list[QueryBody], Field(max_length=MOST_QUERIES, description="Terms: images, or whatever a search takes.")
        ]
        | None
    ) = None


class LabelImagesAnswer(ResponseBody):
    """For each image the likeness to each label, the nearest first: the cosine similarity, less that to the bias which
    the model may take from texts."""

    images: list[dict[str, float]]


class LabelBody(ResponseBody):
    """What an image was taken for; null where it is like none of the labels."""

    uri: str
    label: str | None
    score: float


class ClassifyAnswer(ResponseBody):
    """How many images got each label, are like none, and had the field before and were left alone."""

    counts: dict[str, int]
    unsure: int
    left_alone: int
    images: list[LabelBody]
