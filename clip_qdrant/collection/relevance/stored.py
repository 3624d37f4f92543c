"""Where a collection keeps a calibration of its own: the metadata of the Qdrant collection."""

from __future__ import annotations

from collections.abc import Mapping

from qdrant_client import models

from clip_qdrant.calibration.curves import Calibration

__all__ = ["CALIBRATION_KEY", "read_calibration"]

CALIBRATION_KEY = "clip_qdrant_calibration"


def read_calibration(config: models.CollectionConfig) -> Calibration | None:
    """The calibration that a collection keeps; None if it has none that can be read."""
    kept = (config.metadata or {}).get(CALIBRATION_KEY)
    try:
        return Calibration.from_dict(kept) if isinstance(kept, Mapping) else None
    except (ValueError, KeyError, TypeError):
        return None
