"""When two images count as one, at three levels: the same bytes, the same shot, or similar to look at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from clip_qdrant.collection.search.options import Collapse
from clip_qdrant.fields.dates import parse_datetime

__all__ = ["PAYLOAD_KEYS", "Looks", "is_same"]

PAYLOAD_KEYS = ["image.sha256", "image.phash", "taken_at"]  # what `Looks.read` reads
# Measured with 300 photos of Flickr8k (docs/search.md). Of a photo, a copy of half its size, of JPEG quality 40 or 25 %
# brighter differs in 8 of 64 bits at most (99 %); of 44,850 pairs of other photos none in fewer than 13.
_SAME_PICTURE = 8
_SAME_SCENE = 16  # bits, of pictures taken within _BURST; 1 pair of 5,000 other photos
_BURST = timedelta(seconds=2)
# Cosine, of the bundled model: above the nearest of other photos (0.85), and reached by 94 to 98 % of the copies that
# are cropped to 90 %, cut by 10 %, mirrored, or of JPEG quality 40.
_SIMILAR = 0.92
_HASH = re.compile(r"[0-9a-fA-F]{16}")
# A picture sets half of the bits of its hash; one that sets fewer or more is of one colour, and its hash says nothing.
_FEWEST, _MOST = 16, 48


@dataclass(frozen=True, slots=True)
class Looks:
    """What tells whether two images are one. `vector` is a unit vector, float32 (dim,), or None."""

    sha256: str | None
    phash: int | None
    taken_at: datetime | None
    vector: np.ndarray | None

    @classmethod
    def read(cls, payload: Mapping[str, Any] | None, vector: np.ndarray | None) -> Looks:
        image = (payload or {}).get("image") or {}
        taken_at = (payload or {}).get("taken_at")
        if vector is not None:
            vector = vector / (float(np.linalg.norm(vector)) or 1.0)
        return cls(
            image.get("sha256"),
            _read_hash(image.get("phash")),
            parse_datetime(taken_at) if isinstance(taken_at, str) else None,
            vector,
        )


def is_same(one: Looks, other: Looks, level: Collapse) -> bool:
    """Whether the two count as one image."""
    if one.sha256 is not None and one.sha256 == other.sha256:
        return True
    if level == "similar":
        return one.vector is not None and other.vector is not None and float(one.vector @ other.vector) >= _SIMILAR
    if level == "bytes" or one.phash is None or other.phash is None:
        return False
    distance = (one.phash ^ other.phash).bit_count()
    return distance <= _SAME_PICTURE or (distance <= _SAME_SCENE and _is_burst(one.taken_at, other.taken_at))


def _is_burst(one: datetime | None, other: datetime | None) -> bool:
    if one is None or other is None or (one.tzinfo is None) != (other.tzinfo is None):
        return False
    return abs(one - other) <= _BURST


def _read_hash(text: Any) -> int | None:
    value = int(text, 16) if isinstance(text, str) and _HASH.fullmatch(text) else None
    return value if value is not None and _FEWEST <= value.bit_count() <= _MOST else None
