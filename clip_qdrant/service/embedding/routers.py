"""EMBEDDING_ROUTERS: the paths of all protocols."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from clip_qdrant.service.embedding import cohere, immich, openai, qdrant, voyage

__all__ = ["EMBEDDING_ROUTERS"]

EMBEDDING_ROUTERS: Sequence[APIRouter] = (
    openai.router,
    cohere.router,
    voyage.router,
    immich.router,
    qdrant.router,
)
