"""The files of stored images, and thumbnails of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query
from starlette.responses import Response

from clip_qdrant.collection.hits import Hit
from clip_qdrant.errors import PointNotFound
from clip_qdrant.pages.thumbnails import PREVIEW_SIDE
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.stored_images import media_type_of, sha256_of
from clip_qdrant.service.threads import run_blocking

__all__ = ["PointId", "find_point", "router"]

router = APIRouter(tags=["images"])

_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
# Nobody else's: what a key may see, a shared cache may not. Changes show after this many seconds.
_CACHE = "private, max-age=300"

PointId = Annotated[
    str, Path(pattern=_UUID, description="the id of a hit", examples=["6f1d5b0e-52b6-5e0c-9a3e-0d4f3f1c7a51"])
]
_Access = Annotated[Access, Depends(needs("read"))]
_Collection = Annotated[str | None, Query(max_length=255, description="the service's own without")]
_Tag = Annotated[str | None, Header(alias="If-None-Match", max_length=4096)]


def _file(media_type: str) -> dict[int | str, dict[str, Any]]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"content": {media_type: binary}}, 304: {"description": "as it was"}}


@router.get(
    "/v1/images/{id}", summary="The file of a stored image", response_class=Response, responses=_file("image/*")
)
async def read_image(id: PointId, access: _Access, collection: _Collection = None, tag: _Tag = None) -> Response:
    """As it lies where it was ingested from; 404 if the service cannot read it there, or if it has changed since."""

    def read() -> Response:
        hit = find_point(access, collection, id)
        headers = {"ETag": f'"{sha256_of(hit)}"', "Cache-Control": _CACHE}
        if _has_tag(tag, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(access.service.images.read(hit), media_type=media_type_of(hit), headers=headers)

    return await run_blocking(read)


@router.get(
    "/v1/thumbnails/{id}", summary="A stored image, small", response_class=Response, responses=_file("image/jpeg")
)
async def read_thumbnail(
    id: PointId,
    access: _Access,
    collection: _Collection = None,
    size: Annotated[int, Query(ge=16, le=1024, description="pixels of the longer side, at most")] = PREVIEW_SIDE,
    tag: _Tag = None,
) -> Response:
    """A JPEG without the tags of the photo; 404 as for the whole image."""

    def make() -> Response:
        hit = find_point(access, collection, id)
        headers = {"ETag": f'"{sha256_of(hit)}-{size}"', "Cache-Control": _CACHE}
        if _has_tag(tag, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        jpeg = access.service.images.make_thumbnail(hit, side=size)
        return Response(jpeg, media_type="image/jpeg", headers=headers)

    return await run_blocking(make)


def find_point(access: Access, collection: str | None, name: str) -> Hit:
    """A stored image that the caller may see. It blocks. Raises PointNotFound, and what `Access.open` raises."""
    images = access.open(collection)
    hit = images.get(name)
    if hit is None:
        raise PointNotFound(f"there is no point {name} in collection {images.name!r}")
    return hit


def _has_tag(told: str | None, tag: str) -> bool:
    return told is not None and any(each.strip().removeprefix("W/") in (tag, "*") for each in told.split(","))
