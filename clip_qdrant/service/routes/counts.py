"""Counts: the values and ranges of fields, and images by the label that the model gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse

from clip_qdrant.collection.edit.classify import Label
from clip_qdrant.errors import DeadlineExceeded
from clip_qdrant.service.bodies.counts import (
    ClassifyAnswer,
    ClassifyBody,
    FacetsAnswer,
    FacetsBody,
    HistogramAnswer,
    HistogramBody,
)
from clip_qdrant.service.examples import CLASSIFY, FACETS, HISTOGRAM
from clip_qdrant.service.http.lifetime import current_lifetime
from clip_qdrant.service.queries import check_length, check_where
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.threads import run_blocking

__all__ = ["router"]

router = APIRouter(tags=["counts"])

_Access = Annotated[Access, Depends(needs("read"))]


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


@router.post("/v1/classify", summary="Label images without training", response_model=ClassifyAnswer)
async def classify(body: Annotated[ClassifyBody, Body(openapi_examples=CLASSIFY)], access: _Access) -> JSONResponse:
    """Gives each stored image the label whose prompts it is nearest to. `write` keeps it in a metadata field, which
    takes the scope write; images that have that field already are left alone.
    """
    if body.write is not None:
        access.require("write")

    def label() -> JSONResponse:
        check_where(body.where, access.service.options)
        for prompts in body.labels.values():
            for prompt in [prompts] if isinstance(prompts, str) else prompts:
                check_length("a prompt", prompt, access.service.options)
        named: list[dict[str, Any]] = []
        images = access.open(body.collection)
        found = images.classify(
            body.labels,
            where=body.where,
            write=body.write,
            again=body.again,
            min_relevance=body.min_relevance,
            on_image=_note_labels(named, body.images),
        )
        if body.write is not None:
            access.audit("classify", images.name, {"field": body.write, "counts": dict(found.counts)})
        return JSONResponse({**asdict(found), "images": named})

    return await run_blocking(label)


def _note_labels(named: list[dict[str, Any]], most: int) -> Callable[[Label], None]:
    """Notes the first labels, and ends the work when nobody waits for it any more."""
    lifetime = current_lifetime()

    def note(label: Label) -> None:
        if lifetime is not None and not lifetime.time_left():
            raise DeadlineExceeded("labelling took longer than a request may; narrow it by where")
        if len(named) < most:
            named.append(asdict(label))

    return note


def _tell_edge(edge: float | datetime) -> float | str:
    return edge.isoformat() if isinstance(edge, datetime) else edge
