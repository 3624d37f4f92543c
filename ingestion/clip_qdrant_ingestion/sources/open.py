"""The source that a location names: a path or a URL, as written on a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from clip_qdrant.errors import ConfigError, without_user_info
from clip_qdrant.records import path_of
from clip_qdrant_ingestion.sources.archives.archive import ShardSource
from clip_qdrant_ingestion.sources.archives.locations import is_archive
from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
from clip_qdrant_ingestion.sources.buckets.filesystems import scheme_of
from clip_qdrant_ingestion.sources.path_pattern import PathPattern, Patterned
from clip_qdrant_ingestion.sources.protocol import Source
from clip_qdrant_ingestion.sources.share import Part
from clip_qdrant_ingestion.sources.tables.addresses import WEB
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource, manifest_format
from clip_qdrant_ingestion.sources.tree.folder import FolderSource
from clip_qdrant_ingestion.sources.web.fetch import Fetcher
from clip_qdrant_ingestion.sources.web.http_index import HttpIndexSource

__all__ = ["SourceKind", "kind_of_source", "open_source"]

SourceKind = Literal["folder", "bucket", "manifest", "shards", "index"]
_CHOICES = (
    "a source is a folder, a bucket (s3://bucket/prefix, gs://…, az://…), a manifest (.csv, .tsv, .jsonl, .parquet), "
    "tar archives (.tar, .tar.gz, shard-{000..099}.tar) or a web page of links (https://host/folder/)"
)


def open_source(
    location: str | os.PathLike[str],
    *,
    kind: SourceKind | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    hidden: bool = False,
    name: str | None = None,
    path_pattern: str | None = None,
    part: str | None = None,
    uri_column: str | None = None,
    base: str | os.PathLike[str] | None = None,
    endpoint_url: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    object_metadata: bool = True,
    allow_private: bool = False,
    timeout: float = 30.0,
    patience: float = 60.0,
) -> Source:
    """The source at a location. `kind` says what it is; without it `kind_of_source` does.

    `include`, `exclude` and `hidden` are for folders, buckets and index pages (`Selection`); `uri_column` and `base`
    for manifests; `endpoint_url` and `storage_options` for what lies in buckets, `object_metadata` for buckets alone;
    `allow_private` and `timeout` (seconds an object) for what lies on the web; `patience` is the time in seconds for
    which a listing is tried again. `path_pattern` makes a `Patterned` of the source, `part` ("0/8") a `Part`.

    Raises ConfigError for what cannot be opened or an option that the source does not have, MissingExtra.
    """
    place = os.fspath(location)
    kind = kind_of_source(place) if kind is None else kind
    if kind not in get_args(SourceKind):
        raise ConfigError(f"there is no kind of source {kind!r}; use one of {', '.join(get_args(SourceKind))}")
    selects = kind in ("folder", "bucket", "index")
    for option, given, allowed in (
        ("include", bool(include), selects),
        ("exclude", bool(exclude), selects),
        ("hidden", hidden, selects),
        ("uri_column", uri_column is not None, kind == "manifest"),
        ("base", base is not None, kind == "manifest"),
    ):
        if given and not allowed:
            raise ConfigError(f"{without_user_info(place)} is opened as {kind}, for which there is no {option}")
    options = {**(storage_options or {}), **({"endpoint_url": endpoint_url} if endpoint_url else {})}
    source: Source
    if kind == "folder":
        source = FolderSource(path_of(place) or place, include=include, exclude=exclude, hidden=hidden, name=name)
    elif kind == "bucket":
        source = BucketSource(
            place,
            include=include,
            exclude=exclude,
            hidden=hidden,
            name=name,
            storage_options=options,
            object_metadata=object_metadata,
            patience=patience,
        )
    else:
        fetcher = Fetcher(allow_private=allow_private, timeout=timeout)
        if kind == "manifest":
            source = ManifestSource(
                place,
                uri_column=uri_column,
                name=name,
                base=base,
                fetcher=fetcher,
                storage_options=options,
                patience=patience,
            )
        elif kind == "shards":
            source = ShardSource(place, name=name, fetcher=fetcher, storage_options=options, patience=patience)
        else:
            source = HttpIndexSource(
                place, include=include, exclude=exclude, hidden=hidden, name=name, fetcher=fetcher, patience=patience
            )
    if path_pattern is not None:
        source = Patterned(source, PathPattern(path_pattern))
    return source if part is None else Part(source, *Part.parse(part))


def kind_of_source(location: str) -> SourceKind:
    """What a location is: a folder that is there, else what its name or its scheme tells. Raises ConfigError."""
    scheme = "file" if location[:5].lower() == "file:" else scheme_of(location)
    path = Path(path_of(location) or location) if scheme in ("", "file") else None
    if path is not None and path.is_dir():
        return "folder"
    if manifest_format(location) is not None:
        return "manifest"
    if is_archive(location):
        return "shards"
    if path is None:
        return "index" if scheme in WEB else "bucket"
    if path.suffix or path.exists():
        raise ConfigError(f"{location} cannot be ingested: {_CHOICES}")
    return "folder"  # which is not there: listing it says so
