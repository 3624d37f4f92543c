"""What requests about stored images look like: added, changed, deleted."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from clip_qdrant.service.bodies.body import FieldName, ImageName, RequestBody, ResponseBody, WhereBody
from clip_qdrant.uris import LONGEST_URI

__all__ = ["AddAnswer", "AddBody", "ChangeBody", "ChangedAnswer", "DeletedAnswer", "NewPoint", "SelectionBody"]


class NewPoint(RequestBody):
    """An image to be stored. Without `image` and `upload` it is fetched from its uri, an address of the web."""

    uri: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=LONGEST_URI,
            description="What it is known by; without one `urn:sha256:` and the hash of its bytes.",
            examples=["https://example.com/cat.jpg"],
        ),
    ] = None
    image: Annotated[
        str | None,
        Field(min_length=1, description="The file in base64, also as a data URL.", examples=["iVBORw0KGgo…"]),
    ] = None
    upload: Annotated[int | None, Field(ge=0, description="The place, from 0, of its file in the form.")] = None
    caption: Annotated[str | None, Field(description="null leaves that of a stored image as it is.")] = None
    metadata: Annotated[
        dict[str, Any] | None,
        Field(description="null leaves those of a stored image as they are.", examples=[{"year": 2024}]),
    ] = None

    @model_validator(mode="after")
    def check_kind(self) -> NewPoint:
        if self.image is not None and self.upload is not None:
            raise ValueError("an image comes as image or as upload, not as both")
        if self.image is None and self.upload is None and self.uri is None:
            raise ValueError("name the image by uri, or send it as image or as upload")
        return self


class AddBody(RequestBody):
    """Images to be stored. Files of a form that none of `points` names are images of their own."""

    collection: Annotated[str | None, Field(min_length=1, max_length=255)] = None
    points: list[NewPoint] = Field(default_factory=list)


class PointName(ResponseBody):
    """A point, and the image that it is of."""

    id: str
    uri: str


class AddAnswer(ResponseBody):
    """What came of it, and the points in the order of the request: `points`, then the files that none names."""

    added: int
    updated: int
    unchanged: int
    points: list[PointName]


class SelectionBody(RequestBody):
    """Stored images: those of `ids`, those that `where` holds for, or with both those in both."""

    collection: Annotated[str | None, Field(min_length=1, max_length=255)] = None
    ids: Annotated[list[ImageName] | None, Field(min_length=1)] = None
    where: WhereBody | None = None


class ChangeBody(SelectionBody):
    """Fields that are to have other values, null for those that are to go; also caption, taken_at and location."""

    changes: Annotated[dict[FieldName, Any], Field(min_length=1, examples=[{"rating": 5, "album": None}])]


class DeletedAnswer(ResponseBody):
    deleted: int


class ChangedAnswer(ResponseBody):
    changed: int
