"""Whether the service lives, and whether it takes requests."""

from __future__ import annotations

from fastapi import APIRouter

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def live() -> dict[str, str]:
    """Says that the process answers."""
    return {"status": "ok"}
