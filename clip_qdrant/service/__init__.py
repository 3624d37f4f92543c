"""The HTTP service, `clip-qdrant serve`: searches, stored images and embeddings for programs in any language.

state.py is what one service is made of, and app.py makes the application of it. routes/ has the paths, bodies/ what
they take and give, keys/ who may come, security/ what they may do, http/ what is done around every request. client/ is
the client in Python, which is imported at its first use: `from clip_qdrant.service import Client`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip_qdrant.service.client.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clip_qdrant.service.client.client import Client

    return Client
