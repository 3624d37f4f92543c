"""Stored images: added, read, changed and deleted, each call a line of the audit log."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query
from fastapi.responses import JSONResponse

from clip_qdrant.errors import DeadlineExceeded, PointNotFound
from clip_qdrant.service.bodies.hits import HitBody
from clip_qdrant.service.bodies.points import (
    AddAnswer,
    AddBody,
    ChangeBody,
    ChangedAnswer,
    DeletedAnswer,
    PointName,
    SelectionBody,
)
from clip_qdrant.service.examples import ADD, CHANGE, DELETE
from clip_qdrant.service.http.lifetime import current_lifetime
from clip_qdrant.service.new_images import read_new_images, refuse_other_tenant
from clip_qdrant.service.queries import check_where
from clip_qdrant.service.routes.images import PointId, find_point
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.threads import run_blocking
from clip_qdrant.service.uploads import UploadRoute, describe_form, read_uploads
from clip_qdrant.uris import point_id
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["router"]

router = APIRouter(tags=["points"], route_class=UploadRoute)

_NOTED = 100  # points that a line of the audit log names
_Writer = Annotated[Access, Depends(needs("write"))]
_Collection = Annotated[str | None, Query(max_length=255, description="the service's own without")]


@router.post("/v1/points", summary="Store images", openapi_extra=describe_form("AddBody"))
async def add_points(
    body: Annotated[AddBody, Body(openapi_examples=ADD)],
    access: _Writer,
    uploads: Annotated[list[bytes], Depends(read_uploads)],
) -> AddAnswer:
    """All of them, or none where one cannot be used. An image that is stored by its uri, with the same bytes, is
    not embedded again. The first one creates the collection.
    """

    def add() -> AddAnswer:
        new = read_new_images(body.points, uploads, access.service, access.key.tenant)
        lifetime = current_lifetime()
        if lifetime is not None and not lifetime.time_left():  # nobody waits any more, so nothing is begun
            raise DeadlineExceeded("reading the images took all the time that the request had; send fewer at once")
        images = access.open(body.collection, create=True)
        done = images.add(
            [one.content for one in new],
            uris=[one.uri for one in new],
            captions=[one.caption for one in new],
            metadata=[one.metadata for one in new],
            batch_size=len(new),
        )
        points = [PointName(id=point_id(one.uri), uri=one.uri) for one in new]
        counts = {"added": done.added, "updated": done.updated, "unchanged": done.unchanged}
        noted = [mask_secrets(point.uri) for point in points[:_NOTED]]
        access.audit("add points", images.name, {**counts, "uris": noted})
        return AddAnswer(points=points, **counts)

    return await run_blocking(add)


@router.get("/v1/points/{id}", summary="A stored image", response_model=HitBody)
async def read_point(
    id: PointId,
    access: Annotated[Access, Depends(needs("read"))],
    collection: _Collection = None,
) -> JSONResponse:
    """Its payload, as hits have it."""
    return await run_blocking(lambda: JSONResponse(find_point(access, collection, id).to_dict()))


@router.delete("/v1/points/{id}", summary="Delete a stored image")
async def delete_point(id: PointId, access: _Writer, collection: _Collection = None) -> DeletedAnswer:
    """The point alone: the file stays where it lies."""

    def delete() -> DeletedAnswer:
        images = access.open(collection)
        number = images.delete(uris=[id])
        if not number:
            raise PointNotFound(f"there is no point {id} in collection {images.name!r}")
        access.audit("delete points", images.name, {"deleted": number, "ids": [id]})
        return DeletedAnswer(deleted=number)

    return await run_blocking(delete)


@router.post("/v1/points/delete", summary="Delete stored images")
async def delete_points(
    body: Annotated[SelectionBody, Body(openapi_examples=DELETE)], access: _Writer
) -> DeletedAnswer:
    """Those of some ids or uris, those that a filter holds for, or with both those in both. Their files stay."""

    def delete() -> DeletedAnswer:
        check_where(body.where, access.service.options)
        images = access.open(body.collection)
        number = images.delete(uris=body.ids, where=body.where)
        access.audit("delete points", images.name, {"deleted": number, **_tell_selection(body)})
        return DeletedAnswer(deleted=number)

    return await run_blocking(delete)


@router.post("/v1/points/metadata", summary="Change stored images")
async def change_points(body: Annotated[ChangeBody, Body(openapi_examples=CHANGE)], access: _Writer) -> ChangedAnswer:
    """Metadata, captions, dates and places, of those that are selected; the images are not needed. What is changed here
    stays whatever ingestion finds later.
    """

    def change() -> ChangedAnswer:
        check_where(body.where, access.service.options)
        refuse_other_tenant(body.changes, access.key.tenant)
        images = access.open(body.collection)
        number = images.update_metadata(body.changes, uris=body.ids, where=body.where)
        access.audit(
            "change points", images.name, {"changed": number, "fields": [*body.changes], **_tell_selection(body)}
        )
        return ChangedAnswer(changed=number)

    return await run_blocking(change)


def _tell_selection(body: SelectionBody) -> dict[str, Any]:
    ids = None if body.ids is None else [mask_secrets(one) for one in body.ids[:_NOTED]]
    return {"ids": ids, "where": body.where}
