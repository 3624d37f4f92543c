"""The collections of the store: what there are, what is in one, a new one, and one less."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.fields.types import FieldType
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.threads import run_blocking
from clip_qdrant.store.calls import call

__all__ = ["router"]

router = APIRouter(tags=["collections"])

_Name = Annotated[str, Path(max_length=255, examples=["images"])]


class CollectionNames(BaseModel):
    """The collections that the key may use."""

    collections: list[str] = Field(description="names, in order", examples=[["images", "photos"]])
    default: str = Field(description="the one that is meant where a request names none", examples=["images"])


class CollectionInfo(BaseModel):
    """What is in a collection."""

    name: str = Field(examples=["images"])
    images: int = Field(description="how many there are", examples=[10412])
    counts_exactly: bool = Field(description="whether counts are exact: a server may estimate them")
    fields: dict[str, str] = Field(
        description="the type of each field that `where` knows",
        examples=[{"caption": "keyword", "metadata.year": "integer"}],
    )
    dim: int = Field(description="length of a vector", examples=[384])
    fingerprint: str = Field(description="SHA-256 of the model that made the vectors")
    is_calibrated: bool = Field(description="whether hits have a relevance")


class NewCollection(BaseModel):
    """What a collection is created with."""

    model_config = ConfigDict(extra="forbid")

    fields: dict[Annotated[str, Field(min_length=1, max_length=200)], FieldType] = Field(
        default={},
        description="types of metadata fields; of others the first value tells",
        examples=[{"year": "integer", "tags": "keyword"}],
    )


class Dropped(BaseModel):
    """What is gone with a collection."""

    images: int = Field(description="how many there were", examples=[10412])


@router.get("/v1/collections", summary="List the collections")
async def list_collections(access: Annotated[Access, Depends(needs("read"))]) -> CollectionNames:
    """Those of the store that the key may use, also such as were made by another model or program."""

    def ask() -> CollectionNames:
        found = call(access.service.client.get_collections, what="listing the collections").collections
        names = sorted(one.name for one in found if access.may_use(one.name))
        return CollectionNames(collections=names, default=access.service.options.collection)

    return await run_blocking(ask)


@router.get("/v1/collections/{name}", summary="Describe a collection")
async def describe_collection(name: _Name, access: Annotated[Access, Depends(needs("read"))]) -> CollectionInfo:
    """Its fields, how many images it has, and which model made it."""
    return await run_blocking(lambda: _describe(_open_now(access, name)))


@router.put("/v1/collections/{name}", summary="Create a collection", responses={201: {"model": CollectionInfo}})
async def create_collection(
    name: _Name, access: Annotated[Access, Depends(needs("admin"))], body: NewCollection | None = None
) -> JSONResponse:
    """An empty one, with the types of its fields. One that is there (200) stays, and gets the fields that it lacks."""

    def create() -> JSONResponse:
        there = access.open(name, create=True).exists()
        images = access.service.collections.create(name, fields=body.fields if body else {})
        access.audit("create collection", name, {"fields": dict(body.fields) if body else {}})
        return JSONResponse(_describe(images).model_dump(), 200 if there else 201)

    return await run_blocking(create)


@router.delete("/v1/collections/{name}", summary="Delete a collection")
async def drop_collection(name: _Name, access: Annotated[Access, Depends(needs("admin"))]) -> Dropped:
    """All of it: points, vectors and description. The files of the images stay where they lie."""

    def drop() -> Dropped:
        images = _open_now(access, name)
        number = images.count()
        images.drop()
        access.service.collections.forget(name)
        access.audit("drop collection", name, {"images": number})
        return Dropped(images=number)

    return await run_blocking(drop)


def _open_now(access: Access, name: str) -> ImageCollection:
    """The collection, if it is there now: another program may have dropped it since it was opened."""
    images = access.open(name)
    if not images.exists():
        access.service.collections.forget(name)
        images = access.open(name)
    return images


def _describe(images: ImageCollection) -> CollectionInfo:
    return CollectionInfo(
        name=images.name,
        images=images.count(),
        counts_exactly=images.counts_exactly,
        fields=dict(images.fields),
        dim=images.embedder.dim,
        fingerprint=images.embedder.fingerprint,
        is_calibrated=images.calibration is not None,
    )
