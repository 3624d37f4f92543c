"""Ingestion for clip_qdrant: sources of images, their metadata, and the pipeline that brings both into a collection."""

from clip_qdrant_ingestion.pipeline import ingest
from clip_qdrant_ingestion.report import Progress, Quarantined, Report
from clip_qdrant_ingestion.sources import Folder, FolderSource, Source, SourceObject

__all__ = ["Folder", "FolderSource", "Progress", "Quarantined", "Report", "Source", "SourceObject", "ingest"]
