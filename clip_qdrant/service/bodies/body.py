"""Body: what all bodies of requests and responses have in common."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from clip_qdrant.uris import LONGEST_URI

__all__ = ["FieldName", "Finite", "ImageName", "OpenBody", "RequestBody", "ResponseBody", "WhereBody"]


class RequestBody(BaseModel):
    """A request: a member that there is not is refused by its name, and nothing is converted (`"5"` is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ResponseBody(BaseModel):
    """A response, or a part of one."""

    model_config = ConfigDict(frozen=True)


class OpenBody(ResponseBody):
    """A part of a response that may have further members."""

    model_config = ConfigDict(extra="allow")


Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
FieldName: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=1024, description="A field, as in where: `year` means `metadata.year`.")
]
ImageName: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=LONGEST_URI, description="A stored image, by its uri or the id of its point.")
]
# Which texts and objects are filters, the filters themselves know, and say better than a schema could.
WhereBody: TypeAlias = Annotated[
    str | dict[str, Any],
    Field(max_length=65536, description="A filter: the where language as text, or an object (docs/filters.md)."),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "maxLength": 65536}, {"type": "object", "additionalProperties": True}],
            "description": "A filter: the where language as text, or an object (docs/filters.md).",
            "examples": ["year >= 2022 and album = 'pets'", {"year": {">=": 2022}, "album": ["pets", "sea"]}],
        }
    ),
]
