"""The source that a location names: a path or a URL, as written on a command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clip_qdrant.errors import ConfigError
from clip_qdrant.uris import lower_scheme, path_of
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion.sources.archives.archive import ShardSource
from clip_qdrant_ingestion.sources.archives.locations import names_archives
from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
from clip_qdrant_ingestion.sources.options import SourceKind, SourceOptions
from clip_qdrant_ingestion.sources.path_pattern import PathPattern, PatternedSource
from clip_qdrant_ingestion.sources.protocol import Source
from clip_qdrant_ingestion.sources.schemes import WEB, scheme_of
from clip_qdrant_ingestion.sources.share import Share
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource, manifest_format
from clip_qdrant_ingestion.sources.tree.folder import FolderSource
from clip_qdrant_ingestion.sources.web.http_index import HttpIndexSource

__all__ = ["kind_of_source", "make_source", "open_source"]

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
    follow_symlinks: bool = True,
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
    """The source at a location; the options are those of `SourceOptions`, where `part` is called `share`.

    Raises ConfigError for what cannot be opened or an option that the source does not have, MissingExtra.
    """
    options = SourceOptions(
        kind=kind,
        name=name,
        path_pattern=path_pattern,
        share=part,
        include=include,
        exclude=exclude,
        hidden=hidden,
        follow_symlinks=follow_symlinks,
        uri_column=uri_column,
        base=base,
        endpoint_url=endpoint_url,
        storage_options=storage_options or {},
        object_metadata=object_metadata,
        allow_private=allow_private,
        timeout=timeout,
        patience=patience,
    )
    return make_source(location, options)


def make_source(location: str | os.PathLike[str], options: SourceOptions) -> Source:
    """The source at a location, as its options say. Raises as `open_source`."""
    place = lower_scheme(os.fspath(location))
    _check_place(place)
    kind = options.kind or kind_of_source(place)
    _check_options(place, kind, options)
    source = _OPENERS[kind](place, options)
    if options.path_pattern is not None:
        source = PatternedSource(source, PathPattern(options.path_pattern))
    return source if options.share is None else Share(source, *Share.parse(options.share))


def _check_place(place: str) -> None:
    """Raises ConfigError for what looks like an address and is none."""
    try:
        urlsplit(place)
    except ValueError as error:
        if scheme_of(place) in WEB:
            raise ConfigError(f"{place!r} is no address: {error}") from error


def _check_options(place: str, kind: SourceKind, options: SourceOptions) -> None:
    """Raises ConfigError for a kind that there is not, or an option that this kind of source does not have."""
    if kind not in _OPENERS:
        raise ConfigError(f"there is no kind of source {kind!r}; use one of {', '.join(_OPENERS)}")
    selects = kind in ("folder", "bucket", "index")
    for option, given, allowed in (
        ("include", bool(options.include), selects),
        ("exclude", bool(options.exclude), selects),
        ("hidden", options.hidden, selects or kind == "shards"),
        ("follow_symlinks", not options.follow_symlinks, kind == "folder"),
        ("uri_column", options.uri_column is not None, kind == "manifest"),
        ("base", options.base is not None, kind == "manifest"),
    ):
        if given and not allowed:
            raise ConfigError(f"{mask_secrets(place)} is opened as {kind}, for which there is no {option}")


def _open_folder(place: str, options: SourceOptions) -> Source:
    return FolderSource(
        path_of(place) or place,
        include=options.include,
        exclude=options.exclude,
        hidden=options.hidden,
        follow_symlinks=options.follow_symlinks,
        name=options.name,
    )


def _open_bucket(place: str, options: SourceOptions) -> Source:
    return BucketSource(
        place,
        include=options.include,
        exclude=options.exclude,
        hidden=options.hidden,
        name=options.name,
        storage_options=options.bucket_options,
        object_metadata=options.object_metadata,
        patience=options.patience,
    )


def _open_manifest(place: str, options: SourceOptions) -> Source:
    return ManifestSource(
        place,
        uri_column=options.uri_column,
        name=options.name,
        base=options.base,
        fetcher=_make_fetcher(options),
        storage_options=options.bucket_options,
        patience=options.patience,
    )


def _open_archives(place: str, options: SourceOptions) -> Source:
    return ShardSource(
        place,
        hidden=options.hidden,
        name=options.name,
        fetcher=_make_fetcher(options),
        storage_options=options.bucket_options,
        patience=options.patience,
    )


def _open_index(place: str, options: SourceOptions) -> Source:
    return HttpIndexSource(
        place,
        include=options.include,
        exclude=options.exclude,
        hidden=options.hidden,
        name=options.name,
        fetcher=_make_fetcher(options),
        patience=options.patience,
    )


def _make_fetcher(options: SourceOptions) -> Fetcher:
    return Fetcher(allow_private=options.allow_private, timeout=options.timeout)


_OPENERS: Mapping[SourceKind, Callable[[str, SourceOptions], Source]] = {
    "folder": _open_folder,
    "bucket": _open_bucket,
    "manifest": _open_manifest,
    "shards": _open_archives,
    "index": _open_index,
}


def kind_of_source(location: str) -> SourceKind:
    """What a location is: a folder that is there, else what its name or its scheme tells. Raises ConfigError."""
    location = lower_scheme(location)
    scheme = scheme_of(location)
    path = Path(path_of(location) or location) if scheme in ("", "file") else None
    if path is not None and path.is_dir():
        return "folder"
    if manifest_format(location) is not None:
        return "manifest"
    if names_archives(location):
        return "shards"
    if path is None:
        return "index" if scheme in WEB else "bucket"
    if path.suffix or path.exists():
        raise ConfigError(f"{location} cannot be ingested: {_CHOICES}")
    return "folder"  # which is not there: listing it says so
