"""Ingestion for clip_qdrant: sources of images, and the pipeline that brings them and their metadata into a collection.

Names are imported at their first use, so that what needs neither store nor model starts quickly.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip_qdrant_ingestion.dry_run import plan
    from clip_qdrant_ingestion.pipeline import ingest
    from clip_qdrant_ingestion.report import Plan, Progress, Quarantined, Report
    from clip_qdrant_ingestion.sources.bucket import BucketSource
    from clip_qdrant_ingestion.sources.folder import FolderSource
    from clip_qdrant_ingestion.sources.manifest import ManifestSource
    from clip_qdrant_ingestion.sources.opening import open_source
    from clip_qdrant_ingestion.sources.shards import ShardSource
    from clip_qdrant_ingestion.sources.source import Description, Page, Problem, Source, SourceObject

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
    "BucketSource": "sources.bucket",
    "Description": "sources.source",
    "FolderSource": "sources.folder",
    "ManifestSource": "sources.manifest",
    "Page": "sources.source",
    "Plan": "report",
    "Problem": "sources.source",
    "Progress": "report",
    "Quarantined": "report",
    "Report": "report",
    "ShardSource": "sources.shards",
    "Source": "sources.source",
    "SourceObject": "sources.source",
    "ingest": "pipeline",
    "open_source": "sources.opening",
    "plan": "dry_run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
