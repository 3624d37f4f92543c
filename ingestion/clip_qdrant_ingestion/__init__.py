"""Ingestion for clip_qdrant: sources of images, and the pipeline that brings them and their metadata into a collection.

Names are imported at their first use, so that what needs neither store nor model starts quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clip_qdrant.telemetry import disable_telemetry

if TYPE_CHECKING:
    from clip_qdrant_ingestion.run.dry_run import plan
    from clip_qdrant_ingestion.run.ingest import ingest
    from clip_qdrant_ingestion.run.report import Plan, Progress, Quarantined, Report
    from clip_qdrant_ingestion.sources.archives.archive import ShardSource
    from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
    from clip_qdrant_ingestion.sources.open import open_source
    from clip_qdrant_ingestion.sources.protocol import Description, Page, Problem, Source, SourceObject
    from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource
    from clip_qdrant_ingestion.sources.tree.folder import FolderSource

disable_telemetry()

__all__ = [
    "BucketSource",
    "Description",
    "FolderSource",
    "ManifestSource",
    "Page",
    "Plan",
    "Problem",
    "Progress",
    "Quarantined",
    "Report",
    "ShardSource",
    "Source",
    "SourceObject",
    "ingest",
    "open_source",
    "plan",
]

_HOMES = {
    "BucketSource": "sources.buckets.bucket",
    "Description": "sources.protocol",
    "FolderSource": "sources.tree.folder",
    "ManifestSource": "sources.tables.manifest",
    "Page": "sources.protocol",
    "Plan": "run.report",
    "Problem": "sources.protocol",
    "Progress": "run.report",
    "Quarantined": "run.report",
    "Report": "run.report",
    "ShardSource": "sources.archives.archive",
    "Source": "sources.protocol",
    "SourceObject": "sources.protocol",
    "ingest": "run.ingest",
    "open_source": "sources.open",
    "plan": "run.dry_run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
