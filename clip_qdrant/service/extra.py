"""Whether the extra [serve] is installed."""

from __future__ import annotations

from importlib.util import find_spec

from clip_qdrant.errors import MissingExtra

__all__ = ["require_serve"]

_NEEDED = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


def require_serve() -> None:
    """Raises MissingExtra unless all that the service needs is installed."""
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise MissingExtra(", ".join(missing), "serve", "the HTTP service")
