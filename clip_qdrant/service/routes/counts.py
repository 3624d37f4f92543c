"""Counts: of images, and of the values and the ranges of fields."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse

from clip_qdrant.service.bodies.counts import (
    CountAnswer,
    CountBody,
    FacetsAnswer,
    FacetsBody,
    HistogramAnswer,
    HistogramBody,
)
from clip_qdrant.service.examples import COUNT, FACETS, HISTOGRAM
from clip_qdrant.service.queries import check_where
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.threads import run_blocking

__all__ = ["router"]

router = APIRouter(tags=["counts"])

_Access = Annotated[Access, Depends(needs("read"))]


@router.post("/v1/count", summary="Count images", response_model=CountAnswer)
async def count_images(body: Annotated[CountBody, Body(openapi_examples=COUNT)], access: _Access) -> JSONResponse:
    """How many images a filter selects; all of a collection without one."""

    def count() -> JSONResponse:
        check_where(body.where, access.service.options)
        images = access.open(body.collection)
        return JSONResponse({"count": images.count(body.where), "exact": images.counts_exactly})

    return await run_blocking(count)


@router.post("/v1/facets", summary="Count the values of fields", response_model=FacetsAnswer)
async def facets(body: Annotated[FacetsBody, Body(openapi_examples=FACETS)], access: _Access) -> JSONResponse:
    """How many images have each value of some fields, most frequent first. Each field is counted among the images that
    fit the chosen values of all others; its own do not restrict it, and are in the answer even if no image has them.
    """

    def count() -> JSONResponse:
        check_where(body.where, access.service.options)
        images = access.open(body.collection)
        found = images.facets(body.fields, where=body.where, limit=body.limit)
        told = {
            field: {
                "values": [asdict(one) for one in values],
                "more_values": values.more_values,
                "more_images": values.more_images,
            }
            for field, values in found.items()
        }
        return JSONResponse({"facets": told, "exact": images.counts_exactly})

    return await run_blocking(count)


@router.post("/v1/histogram", summary="Count the ranges of a field", response_model=HistogramAnswer)
async def histogram(body: Annotated[HistogramBody, Body(openapi_examples=HISTOGRAM)], access: _Access) -> JSONResponse:
    """How many images lie in each range of a field of dates or numbers, empty ranges included."""

    def count() -> JSONResponse:
        check_where(body.where, access.service.options)
        images = access.open(body.collection)
        found = images.histogram(body.field, by=body.by, bins=body.bins, edges=body.edges, where=body.where)
        bins = [{**asdict(one), "start": _tell_edge(one.start), "end": _tell_edge(one.end)} for one in found]
        told = {"bins": bins, "missing": found.missing, "outside": found.outside, "exact": images.counts_exactly}
        return JSONResponse(told)

    return await run_blocking(count)


def _tell_edge(edge: float | datetime) -> float | str:
    return edge.isoformat() if isinstance(edge, datetime) else edge
