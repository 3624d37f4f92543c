"""Labels without training: of stored images, which may keep them, and of images that a request brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse

from clip_qdrant.collection.edit.classify import Label, embed_labels
from clip_qdrant.collection.query import evaluate_queries
from clip_qdrant.errors import DeadlineExceeded, QueryError
from clip_qdrant.service.bodies.counts import ClassifyAnswer, ClassifyBody, LabelImagesAnswer, LabelImagesBody
from clip_qdrant.service.examples import CLASSIFY, LABEL_IMAGES
from clip_qdrant.service.http.lifetime import current_lifetime
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.queries import QueryReader, check_length, check_where
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.threads import run_blocking
from clip_qdrant.service.uploads import UploadRoute, describe_form, read_uploads

__all__ = ["router"]

router = APIRouter(tags=["labels"], route_class=UploadRoute)

_Access = Annotated[Access, Depends(needs("read"))]


@router.post("/v1/classify", summary="Label images without training", response_model=ClassifyAnswer)
async def classify(body: Annotated[ClassifyBody, Body(openapi_examples=CLASSIFY)], access: _Access) -> JSONResponse:
    """Gives each stored image the label whose prompts it is nearest to. `write` keeps it in a metadata field, which
    takes the scope write; images that have that field already are left alone.
    """
    if body.write is not None:
        access.require("write")

    def label() -> JSONResponse:
        check_where(body.where, access.service.options)
        _check_prompts(body.labels, access.service.options)
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


@router.post(
    "/v1/classify/images",
    summary="Label images that are not stored",
    response_model=LabelImagesAnswer,
    openapi_extra=describe_form("LabelImagesBody"),
)
async def classify_images(
    body: Annotated[LabelImagesBody, Body(openapi_examples=LABEL_IMAGES)],
    access: _Access,
    uploads: Annotated[list[bytes], Depends(read_uploads)],
) -> JSONResponse:
    """How like each image is to each label. Nothing is stored; a collection is asked for images that it has alone."""

    def fetch(names: Sequence[str]) -> Mapping[str, np.ndarray]:
        return access.open(body.collection).searcher.fetch_vectors(names)

    def compare() -> JSONResponse:
        _check_prompts(body.labels, access.service.options)
        reader = QueryReader(access.service, uploads)
        queries = reader.read_all(body.images or ()) + reader.read_unnamed()
        if not queries:
            raise QueryError("there are no images: name some, or send files as parts `image` of a form")
        embedder = access.service.embedder
        labels = embed_labels(body.labels, embedder)  # (labels, dim)
        rows = np.stack([one.vector for one in evaluate_queries(queries, embedder, fetch)])  # (images, dim)
        return JSONResponse({"images": [_rank(scores, list(body.labels)) for scores in rows @ labels.T]})

    return await run_blocking(compare)


def _rank(scores: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    return {labels[at]: float(scores[at]) for at in np.argsort(-scores, kind="stable")}


def _check_prompts(labels: Mapping[str, str | Sequence[str]], options: ServiceOptions) -> None:
    for prompts in labels.values():
        for prompt in [prompts] if isinstance(prompts, str) else prompts:
            check_length("a prompt", prompt, options)


def _note_labels(named: list[dict[str, Any]], most: int) -> Callable[[Label], None]:
    """Notes the first labels, and ends the work when nobody waits for it any more."""
    lifetime = current_lifetime()

    def note(label: Label) -> None:
        if lifetime is not None and not lifetime.time_left():
            raise DeadlineExceeded("labelling took longer than a request may; narrow it by where")
        if len(named) < most:
            named.append(asdict(label))

    return note
