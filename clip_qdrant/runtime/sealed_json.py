"""JSON files that carry a checksum of what they say, so that one which was changed or damaged is not believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clip_qdrant.errors import ExportError

__all__ = ["read_sealed", "seal"]

_SEAL = "seal"


def seal(values: Mapping[str, Any]) -> str:
    """The text of a file that `read_sealed` reads."""
    return json.dumps({**values, _SEAL: _compute(values)}, indent=1)


def read_sealed(path: Path) -> dict[str, Any]:
    """What was written, to the letter. Raises ExportError for anything else, a missing file included."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop(_SEAL) == _compute(values):
            return dict(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExportError(f"cannot read {path}: {error}") from error
    raise ExportError(f"{path} is damaged")


def _compute(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
