"""How vectors are written in answers: numbers, base64 of float32, or one bit for each number."""

from __future__ import annotations

import base64
from typing import Any, Literal, TypeAlias

import numpy as np

from clip_qdrant.errors import ConfigError

__all__ = ["VectorFormat", "check_dimensions", "write_data", "write_vectors"]

VectorFormat: TypeAlias = Literal["float", "base64", "binary", "ubinary"]


def write_vectors(rows: np.ndarray, form: VectorFormat) -> list[Any]:
    """One value for each row of float32 (n, dim).

    `base64` is of little-endian float32. `ubinary` is whether each number is above 0, eight in a byte, the first as the
    highest bit; `binary` is the same less 128, as signed bytes.
    """
    if form == "base64":
        return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
    if form == "float":
        numbers: list[Any] = rows.tolist()
        return numbers
    packed = np.packbits(rows > 0, axis=1)
    bits: list[Any] = (packed if form == "ubinary" else packed.astype(np.int16) - 128).tolist()
    return bits


def write_data(rows: np.ndarray, form: VectorFormat) -> list[dict[str, Any]]:
    """`data` of OpenAI's answers, which others have too."""
    return [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(write_vectors(rows, form))
    ]


def check_dimensions(name: str, asked: int | None, dim: int) -> None:
    """Raises ConfigError for another number of dimensions than the model has: the first of them mean nothing alone."""
    if asked is not None and asked != dim:
        raise ConfigError(f"{name} is {asked}: the vectors of this model have {dim}, and cannot be cut; leave it out")
