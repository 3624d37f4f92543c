"""create_app: the ASGI application of a Service, for any ASGI server.

app = create_app(Service(connect("./qdrant-data"), ClipEmbedder.load()))
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware

from clip_qdrant import __version__
from clip_qdrant.service.embedding.routers import EMBEDDING_ROUTERS
from clip_qdrant.service.http.body_limit import BodyLimitMiddleware
from clip_qdrant.service.http.envelope import REQUEST_ID, EnvelopeMiddleware
from clip_qdrant.service.http.lifetime import LifetimeMiddleware
from clip_qdrant.service.http.observe import ObserveMiddleware
from clip_qdrant.service.problems import RESPONSES, ProblemDetails, add_problem_handlers
from clip_qdrant.service.routes import collections, counts, health, images, ingest, labels, points, search
from clip_qdrant.service.state import Service

__all__ = ["create_app"]

ROUTERS: Sequence[APIRouter] = (
    health.router,
    collections.router,
    images.router,
    points.router,
    search.router,
    counts.router,
    labels.router,
    ingest.router,
    *EMBEDDING_ROUTERS,
)


class _Api(FastAPI):
    """A FastAPI whose document has the schema of problems, which no route returns by itself."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {})["ProblemDetails"] = (
            ProblemDetails.model_json_schema()
        )
        return document


def create_app(service: Service) -> FastAPI:
    """The application that answers for `service`, which is closed when the server ends it."""

    @contextlib.asynccontextmanager
    async def run_service(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.ensure_future(asyncio.to_thread(service.warm_up))  # the probes are answered meanwhile
        try:
            yield
        finally:
            service.drain()
            await warming
            await asyncio.to_thread(service.close)

    # No pages of the framework's: they load scripts from elsewhere.
    app = _Api(
        title="clip_qdrant",
        summary="Search images by texts and images",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=run_service,
        responses={**RESPONSES},
    )
    app.state.service = service
    add_problem_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    options = service.options
    # The last one added is the outermost.
    app.add_middleware(BodyLimitMiddleware, max_bytes=options.max_body_bytes)
    app.add_middleware(LifetimeMiddleware, seconds=options.deadline, pool=service.threads)
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "api-key", "Content-Type", REQUEST_ID, "If-None-Match"],
            expose_headers=["ETag", "Location", "Retry-After", REQUEST_ID],
            max_age=3600,
        )
    app.add_middleware(EnvelopeMiddleware)
    app.add_middleware(ObserveMiddleware, metrics=service.metrics)
    return app
