"""Image-text retrieval on Qdrant, from training to serving.

Names are imported at their first use, so that `import clip_qdrant` costs nothing and searching never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clip_qdrant.telemetry import disable_telemetry

if TYPE_CHECKING:
    from clip_qdrant.collection.add import AddResult
    from clip_qdrant.collection.hits import Facet, Hit
    from clip_qdrant.collection.images import ImageCollection
    from clip_qdrant.collection.query import Query
    from clip_qdrant.embedder import ClipEmbedder
    from clip_qdrant.embedder_protocol import Embedder
    from clip_qdrant.errors import ClipQdrantError
    from clip_qdrant.store.connect import connect
    from clip_qdrant.store.edge.client import EdgeClient

disable_telemetry()

__all__ = [
    "AddResult",
    "ClipEmbedder",
    "ClipQdrantError",
    "EdgeClient",
    "Embedder",
    "Facet",
    "Hit",
    "ImageCollection",
    "Query",
    "connect",
]

_HOMES = {
    "AddResult": "collection.add",
    "ClipEmbedder": "embedder",
    "ClipQdrantError": "errors",
    "EdgeClient": "store.edge.client",
    "Embedder": "embedder_protocol",
    "Facet": "collection.hits",
    "Hit": "collection.hits",
    "ImageCollection": "collection.images",
    "Query": "collection.query",
    "connect": "store.connect",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # 40 ms that a search need not spend

    try:
        return version("clip-qdrant")
    except PackageNotFoundError:  # imported from a folder that was never installed
        return "0"
