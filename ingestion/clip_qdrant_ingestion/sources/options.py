"""How a source is opened: its options, declared once for the command line, the worker and Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["SourceKind", "SourceOptions"]

SourceKind = Literal["folder", "bucket", "manifest", "shards", "index"]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options of sources. Each kind of source uses those that it has.

    `kind` says what a location is; without it, its name tells. `name` is stored as `source.name`. `path_pattern` takes
    metadata from paths, `share` ("0/8") leaves the rest to other workers. `include`, `exclude` and `hidden` are for
    folders, buckets and index pages (see `Selection`); `uri_column` and `base` for manifests; `endpoint_url` and
    `storage_options` for whatever lies in buckets, `object_metadata` for buckets alone; `allow_private` and `timeout`
    (seconds an object) for the web. `patience` is the time in seconds for which a listing is tried again.
    """

    kind: SourceKind | None = None
    name: str | None = None
    path_pattern: str | None = None
    share: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    follow_symlinks: bool = True
    uri_column: str | None = None
    base: str | os.PathLike[str] | None = None
    endpoint_url: str | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    object_metadata: bool = True
    allow_private: bool = False
    timeout: float = 30.0
    patience: float = 60.0

    @property
    def bucket_options(self) -> dict[str, Any]:
        """What the file system of a bucket gets."""
        return {**self.storage_options, **({"endpoint_url": self.endpoint_url} if self.endpoint_url else {})}
