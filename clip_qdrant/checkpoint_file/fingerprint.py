"""The fingerprint: sha256 of what changes vectors, the same from tensors in memory and from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from clip_qdrant.model_inputs.preprocessing import Preprocessing
from clip_qdrant.model_inputs.tokenization import Tokenization

__all__ = ["compute_fingerprint"]


def compute_fingerprint(
    identity: Mapping[str, Any],
    preprocessing: Preprocessing,
    tokenization: Tokenization,
    tokenizer: str,
    weights: Iterable[tuple[str, np.ndarray]],
) -> str:
    """sha256 over float32 (whole numbers: int64) weights in the order of their names, and all that shapes a vector."""
    digest = hashlib.sha256(
        json.dumps(
            {
                "config": identity,
                "preprocessing": preprocessing.to_dict(),
                "tokenization": tokenization.to_dict(),
                "tokenizer": hashlib.sha256(tokenizer.encode()).hexdigest(),
            },
            sort_keys=True,
        ).encode()
    )
    for name, value in weights:
        array = value.astype(np.float32 if value.dtype.kind == "f" else np.int64, copy=False)
        digest.update(f"{name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
