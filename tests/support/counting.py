"""A folder as a source that keeps a record."""

from __future__ import annotations

import os

from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion import FolderSource, SourceObject


class CountingFolder(FolderSource):
    """Remembers the names of the images that were read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.images_read: list[str] = []

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        self.images_read.append(item.name)
        return super().read(item, limits=limits)
