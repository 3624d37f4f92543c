"""Queries as JSON: a text, a term, or a list of terms that add up, as the `Query` of the library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from clip_qdrant.service.bodies.body import Finite, ImageName, RequestBody

if TYPE_CHECKING:
    from typing import Self

__all__ = ["KINDS", "MOST_TERMS", "QueryBody", "TermBody", "TextOrTerm"]

MOST_TERMS = 32
_LONGEST_TEXT = 65536  # characters; the service has a limit of its own, which is told in words
_LONGEST_URL = 8192
KINDS = ("text", "image", "url", "upload", "id", "vector")
_IMAGES = ("image", "url", "upload")


class TermBody(RequestBody):
    """One part of a query: exactly one of `text`, `image`, `url`, `upload`, `id` and `vector`, and what it weighs."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [kind], "properties": {kind: {"not": {"type": "null"}}}} for kind in KINDS],
            "examples": [{"text": "a dog"}, {"url": "https://example.org/beach.jpg", "weight": 0.5}],
        }
    )

    text: Annotated[str, Field(min_length=1, max_length=_LONGEST_TEXT, description="What it should show.")] | None = (
        None
    )
    image: (
        Annotated[
            str,
            Field(min_length=1, description="An image they should be like: base64, or a data URL (RFC 2397) of it."),
        ]
        | None
    ) = None
    url: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=_LONGEST_URL,
                description="An image of a public host on the web.",
            ),
        ]
        | None
    ) = None
    upload: (
        Annotated[
            int,
            Field(ge=0, lt=MOST_TERMS, description="An uploaded file, by its place among those of the form, from 0."),
        ]
        | None
    ) = None
    id: ImageName | None = None
    vector: (
        Annotated[list[Finite], Field(min_length=1, max_length=65536, description="A vector of the model's space.")]
        | None
    ) = None
    weight: Annotated[
        Finite, Field(ge=-1000, le=1000, description="What the term counts for. Below 0 it leads away from it.")
    ] = 1.0
    box: (
        Annotated[
            list[Finite],
            Field(
                min_length=4,
                max_length=4,
                description="The part of an image that counts: left, top, right, bottom in pixels, upright.",
            ),
        ]
        | None
    ) = None
    raw: Annotated[bool, Field(description="Take a text as it is, without the prompts of the model around it.")] = False

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            told = f"it has {' and '.join(given)}" if given else "it has none of them"
            raise ValueError(f"a term takes exactly one of {', '.join(KINDS)}: {told}")
        if self.box is not None and given[0] not in _IMAGES:
            raise ValueError(f"box is a part of an image, and this term is a {given[0]}; leave box out")
        if self.raw and given[0] != "text":
            raise ValueError(f"raw is for a text, and this term is a {given[0]}; leave raw out")
        return self


def _kind_of(value: Any) -> Literal["text", "terms", "term"]:
    return "text" if isinstance(value, str) else "terms" if isinstance(value, list | tuple) else "term"


_TextBody: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=_LONGEST_TEXT, description="What the images should show.")
]
TextOrTerm: TypeAlias = Annotated[
    Annotated[_TextBody, Tag("text")] | Annotated[TermBody, Tag("term")], Discriminator(_kind_of)
]
QueryBody: TypeAlias = Annotated[
    Annotated[_TextBody, Tag("text")]
    | Annotated[TermBody, Tag("term")]
    | Annotated[
        list[TextOrTerm], Field(min_length=1, max_length=MOST_TERMS, description="Terms that add up."), Tag("terms")
    ],
    Discriminator(_kind_of),
]
