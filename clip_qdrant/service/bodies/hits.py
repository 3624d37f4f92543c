"""Hits as JSON: those of `Hit.to_dict`, and what a search tells beside them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from clip_qdrant.service.bodies.body import OpenBody, ResponseBody

__all__ = ["BatchAnswer", "HitBody", "HitsAnswer"]


class HitBody(OpenBody):
    """A stored image: what the search found of it, and its payload."""

    id: Annotated[str, Field(description="The id of its point.")]
    score: Annotated[float | None, Field(description="The cosine similarity; null where nothing was compared.")]
    relevance: Annotated[float, Field(description="The share of random pairs that are less alike.")] | None = None
    copies: Annotated[list[str], Field(description="The ids of the images that it stands for.")] | None = None
    parts: Annotated[dict[str, float], Field(description="Likeness and words, where both were looked for.")] | None = (
        None
    )
    shares: Annotated[dict[str, float], Field(description="What each term of the query gave.")] | None = None
    vector: list[float] | None = None
    path: Annotated[str | None, Field(description="The path of a file of the server; null for others.")] = None
    uri: str | None = None
    caption: str | None = None
    metadata: dict[str, Any] | None = None


class GroupBody(ResponseBody):
    """The hits of one value of a field, by their ids."""

    value: str | int | bool
    hits: list[str]


class ExplanationBody(ResponseBody):
    """How the search was run."""

    seconds: dict[str, float]
    index: str
    notes: list[str] | None = None


class HitsAnswer(ResponseBody):
    """What was found, best first. `reason` says why there is nothing, where there is nothing."""

    hits: list[HitBody]
    reason: str | None = None
    groups: list[GroupBody] | None = None
    explanation: ExplanationBody | None = None


class BatchAnswer(ResponseBody):
    """The hits of each query, in the order of the queries."""

    results: list[HitsAnswer]
