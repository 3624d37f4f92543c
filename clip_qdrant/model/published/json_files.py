"""JSON files of a published model, read as data: what is in one may be anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clip_qdrant.errors import CheckpointError, first_line

__all__ = ["read_values"]


def read_values(path: Path, label: str, *, kind: type = dict) -> Any:
    """What is in a JSON file, an empty `kind` where there is none. Raises CheckpointError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else kind()
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{label} has a {path.name} that cannot be read: {first_line(error)}") from error
    if not isinstance(values, kind):
        raise CheckpointError(f"{label} has a {path.name} that holds a {type(values).__name__}, not a {kind.__name__}")
    return values
