"""Answers of the tools: text for the model, the same as JSON for programs, and pictures between the texts.

What is told comes from files, captions and payloads that anybody may have written: each value is one line without
control characters, and secrets in URLs are masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from mcp.types import CallToolResult, ImageContent, TextContent
from pydantic import BaseModel, Field

from clip_qdrant.errors import shorten
from clip_qdrant.pages.cards import list_facts
from clip_qdrant.pages.facts import show_folder, show_name
from clip_qdrant.url_secrets import mask_document, mask_secrets

if TYPE_CHECKING:
    from clip_qdrant.collection.hits import Hit

__all__ = [
    "ToolCollection",
    "ToolCollections",
    "ToolFacets",
    "ToolHits",
    "answer_with",
    "answer_with_hits",
    "list_fields",
]

_LONGEST = 500  # characters of a line of text
_LONGEST_ALONE = 5000  # where one image is told of


class ToolHits(BaseModel):
    """What a search found, best first."""

    collection: str
    hits: list[dict[str, Any]] = Field(description="each with id, score (cosine similarity), path and what is stored")
    reason: str | None = Field(None, description="why there are no hits")
    notes: list[str] = Field(default_factory=list, description="what a reader should know of the collection")


class ToolCollections(BaseModel):
    """The collections that there are."""

    collections: list[dict[str, Any]] = Field(description="each with name, images, made_by and, if so, unusable")


class ToolCollection(BaseModel):
    """One collection: its fields, and values of them with the number of images that have each."""

    collection: str
    images: int
    exact: bool = Field(description="whether numbers are exact; a server may give estimates only")
    fields: dict[str, dict[str, Any]] = Field(description="type, values or ranges by the name that where takes")
    vector: str | None = Field(None, description="the name of the vector that is searched, where it has one")
    sample: int | None = Field(None, description="how many images the values were counted of, where not all were")
    notes: list[str] = Field(default_factory=list)


class ToolFacets(BaseModel):
    """How many images have each value of the fields asked for."""

    collection: str
    fields: dict[str, dict[str, Any]] = Field(description="values or ranges with counts, by field")
    notes: list[str] = Field(default_factory=list)


def answer_with(answer: BaseModel, lines: Sequence[str]) -> CallToolResult:
    """An answer as text and as JSON."""
    return CallToolResult(content=[_text("\n".join(map(_line, lines)))], structured_content=_json(answer))


def answer_with_hits(
    answer: ToolHits, hits: Sequence[Hit], pictures: Sequence[ImageContent | None], title: str, *, first: int = 1
) -> CallToolResult:
    """Hits as text, JSON and pictures, each picture behind the text about its image; `pictures` are of the first."""
    if not hits:
        lines = [f"{title}: nothing found" + (f"; {answer.reason}" if answer.reason else ""), *answer.notes]
        return answer_with(answer, lines)
    content: list[Any] = []
    waiting = [_line(line) for line in (title, *answer.notes)]
    longest = _LONGEST if len(hits) > 1 else _LONGEST_ALONE
    for rank, (hit, picture) in enumerate(zip_longest(hits, pictures), first):
        waiting += [_line(line, longest) for line in _describe_hit(rank, hit)]
        if picture is not None:
            content += [_text("\n".join(waiting)), picture]
            waiting = []
    if waiting:
        content.append(_text("\n".join(waiting)))
    return CallToolResult(content=content, structured_content=_json(answer))


def list_fields(fields: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Fields with their types and counts, one a line."""
    return [_describe_field(name, field) for name, field in fields.items()]


def _describe_hit(rank: int, hit: Hit) -> Iterator[str]:
    inside = hit.uri.startswith("data:")  # the image itself is in the payload of another program
    score = "" if hit.score is None else f", score {hit.score:.3f}"
    yield f"{rank}. {(not inside and show_name(hit)) or 'image'}{score}"
    if hit.caption:
        yield hit.caption
    if facts := ", ".join(f"{fact} {value}" for fact, value in list_facts(hit)):
        yield facts
    folder = "" if inside else show_folder(hit)
    yield (f"in {folder}, " if folder else "") + f"id {hit.id}"


def _describe_field(name: str, field: Mapping[str, Any]) -> str:
    counted = [f"{one['value']} ({one['count']})" for one in field.get("values", ())]
    counted += [f"{one['range']} ({one['count']})" for one in field.get("ranges", ())]
    more = field.get("more_values", 0), field.get("more_ranges", 0)
    if more[0] is None or sum(more):
        counted.append("and more" if more[0] is None else f"and {sum(more)} more")
    if field.get("missing"):
        counted.append(f"none ({field['missing']})")
    kind = f" ({field['type']})" if "type" in field else ""
    return f"{name}{kind}" + (f": {', '.join(counted)}" if counted else "")


def _line(text: str, longest: int = _LONGEST) -> str:
    flat = mask_secrets(" ".join(text.split()))
    return shorten("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in flat), longest)


def _text(text: str) -> TextContent:
    return TextContent(text=text)


def _json(answer: BaseModel) -> dict[str, Any]:
    told: dict[str, Any] = mask_document(answer.model_dump(mode="json", exclude_none=True))
    return told
