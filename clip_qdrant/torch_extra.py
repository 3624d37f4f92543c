"""Whether the extra `[torch]` is installed, told before anything of it is imported."""

from __future__ import annotations

import importlib.util

from clip_qdrant.errors import MissingExtra

__all__ = ["has_torch", "require_torch"]

_PACKAGES = ("torch", "transformers", "timm", "onnxscript")


def has_torch() -> bool:
    """Whether networks can be built and exported here."""
    return all(importlib.util.find_spec(name) for name in _PACKAGES)


def require_torch(purpose: str) -> None:
    """Raises MissingExtra, beginning with `purpose`, where the extra is not installed."""
    if not has_torch():
        raise MissingExtra("torch", "torch", purpose)
