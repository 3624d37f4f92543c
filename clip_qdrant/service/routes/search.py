"""Searches: one, several at once, by examples, and within a context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse

from clip_qdrant.collection.hits import Hits
from clip_qdrant.service.bodies.hits import BatchAnswer, HitsAnswer
from clip_qdrant.service.bodies.search import DiscoverBody, HitsRequest, RecommendBody, SearchBatchBody, SearchBody
from clip_qdrant.service.examples import DISCOVER, RECOMMEND, SEARCH, SEARCH_BATCH
from clip_qdrant.service.queries import QueryReader, check_options, embed_texts_ahead
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.threads import run_blocking
from clip_qdrant.service.uploads import UploadRoute, describe_form, read_uploads

__all__ = ["router"]

router = APIRouter(tags=["search"], route_class=UploadRoute)

_Access = Annotated[Access, Depends(needs("read"))]
_Uploads = Annotated[list[bytes], Depends(read_uploads)]


@router.post(
    "/v1/search",
    summary="Search images",
    response_model=HitsAnswer,
    openapi_extra=describe_form("SearchBody"),
)
async def search(
    body: Annotated[SearchBody, Body(openapi_examples=SEARCH)], access: _Access, uploads: _Uploads
) -> JSONResponse:
    """The images most similar to a query, best first: a text, images, stored images, vectors, or a weighted sum; all
    images without one. Files of a form that no term names are added to the query.
    """

    def find(reader: QueryReader) -> Hits:
        terms = [] if body.query is None else [reader.read(body.query)]
        terms += reader.read_unnamed()
        query = sum(terms[1:], start=terms[0]) if terms else None
        return access.open(body.collection).search(query, where=body.where, **body.given())

    if not body.explain:  # which tells how long it takes
        await embed_texts_ahead([body.query], access.service)
    return await _answer(find, body, access, uploads)


@router.post(
    "/v1/search/batch",
    summary="Search several times at once",
    response_model=BatchAnswer,
    openapi_extra=describe_form("SearchBatchBody"),
)
async def search_batch(
    body: Annotated[SearchBatchBody, Body(openapi_examples=SEARCH_BATCH)], access: _Access, uploads: _Uploads
) -> JSONResponse:
    """The hits of each query, as /v1/search gives them: all are embedded at once, and asked in one call."""

    def find() -> JSONResponse:
        check_options(body, access.service.options)
        reader = QueryReader(access.service, uploads)
        queries = reader.read_all(body.queries)
        reader.check_uploads()
        found = access.open(body.collection).search_batch(queries, where=body.where, options=body.options())
        return JSONResponse({"results": [hits.to_dict() for hits in found]})

    await embed_texts_ahead(body.queries, access.service)
    return await run_blocking(find)


@router.post(
    "/v1/recommend",
    summary="Find images like examples",
    response_model=HitsAnswer,
    openapi_extra=describe_form("RecommendBody"),
)
async def recommend(
    body: Annotated[RecommendBody, Body(openapi_examples=RECOMMEND)], access: _Access, uploads: _Uploads
) -> JSONResponse:
    """The images most like the positive examples and unlike the negative ones, which are left out themselves."""

    def find(reader: QueryReader) -> Hits:
        positive, negative = reader.read_all(body.positive or ()), reader.read_all(body.negative or ())
        reader.check_uploads()
        return access.open(body.collection).recommend(
            positive, negative, strategy=body.strategy, where=body.where, options=body.options()
        )

    return await _answer(find, body, access, uploads)


@router.post(
    "/v1/discover",
    summary="Find images within a context",
    response_model=HitsAnswer,
    openapi_extra=describe_form("DiscoverBody"),
)
async def discover(
    body: Annotated[DiscoverBody, Body(openapi_examples=DISCOVER)], access: _Access, uploads: _Uploads
) -> JSONResponse:
    """The images on the near side of each pair, those most like the target first. Scores count pairs."""

    def find(reader: QueryReader) -> Hits:
        target = None if body.target is None else reader.read(body.target)
        pairs = [(reader.read(pair.near), reader.read(pair.far)) for pair in body.context]
        reader.check_uploads()
        return access.open(body.collection).discover(target, pairs, where=body.where, options=body.options())

    return await _answer(find, body, access, uploads)


async def _answer(
    find: Callable[[QueryReader], Hits],
    body: HitsRequest,
    access: Access,
    uploads: list[bytes],
) -> JSONResponse:
    """The answer with what `find` finds, in a thread: the pictures are decoded and the JSON is written there too."""

    def call() -> JSONResponse:
        check_options(body, access.service.options)
        return JSONResponse(find(QueryReader(access.service, uploads)).to_dict())

    return await run_blocking(call)
