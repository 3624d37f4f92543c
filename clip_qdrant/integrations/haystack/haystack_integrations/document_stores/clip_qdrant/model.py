"""One loaded model for all components of a process that name it: embedders and document stores of any pipeline."""

from __future__ import annotations

import threading
import weakref
from typing import Literal, TypeAlias

from clip_qdrant.embedder import ClipEmbedder

__all__ = ["Runtime", "load_embedder"]

Runtime: TypeAlias = Literal["auto", "onnx", "torch"]

_lock = threading.Lock()
_loaded: weakref.WeakValueDictionary[tuple[str, Runtime, str], ClipEmbedder] = weakref.WeakValueDictionary()


def load_embedder(model: str, *, runtime: Runtime, device: str) -> ClipEmbedder:
    """The embedder that `ClipEmbedder.load` gives, loaded anew only where nobody uses it. Raises as that does."""
    name = (model, runtime, device)
    with _lock:
        embedder = _loaded.get(name)
        if embedder is None:
            embedder = ClipEmbedder.load(model, runtime=runtime, device=device)
            _loaded[name] = embedder
        return embedder
