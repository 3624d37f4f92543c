"""Whether the service lives, whether it takes requests, and its metrics."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from starlette.responses import Response

from clip_qdrant.errors import StoreError
from clip_qdrant.service.metrics import CONTENT_TYPE
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.state import Service, get_service
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["router"]

router = APIRouter(tags=["health"])

_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"description": "not ready: `status` says why"}}
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/healthz", summary="Does it live?")
async def live() -> dict[str, str]:
    """Answers as long as the process does. Asks for no key."""
    return {"status": "ok"}


@router.get("/readyz", summary="Does it take requests?", responses=_NOT_READY)
async def ready(service: Annotated[Service, Depends(get_service)]) -> JSONResponse:
    """200 once the model is loaded, as long as the store answers; 503 before, and while the service ends. No key."""
    status = service.state
    if status != "ready":
        return JSONResponse({"status": status}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"})
    try:
        await asyncio.to_thread(service.ask_store)
    except StoreError as error:
        told = {"status": "no store", "detail": mask_secrets(str(error))}
        return JSONResponse(told, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"})
    return JSONResponse({"status": status})


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response, responses=_TEXT)
async def metrics(access: Annotated[Access, Depends(needs("read"))]) -> Response:
    """Requests by route and status, durations, and what waits."""
    return Response(access.service.metrics.text(), media_type=CONTENT_TYPE)
