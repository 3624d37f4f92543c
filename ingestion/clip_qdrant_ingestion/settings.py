"""The settings of the program: those of the library, and those of ingestion.

settings = IngestSettings.load({"source": "photos"})
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from clip_qdrant.settings import Count, Settings, Text, Texts, expand_home, refuse_bool, setting
from clip_qdrant_ingestion.sources.options import SourceKind

__all__ = ["IngestSettings"]


def _parse_share(value: Any) -> Any:
    """`10%` is 0.1."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return refuse_bool(value)


_Seconds = Annotated[float, BeforeValidator(refuse_bool), Field(ge=0, allow_inf_nan=False)]


class IngestSettings(Settings):
    """Every setting with its default. The constructor takes values and reads nothing; `load` reads."""

    workers: Count | None = setting(
        None, "threads that decode images; unset: as many as there are cores", "a whole number of at least 1"
    )
    readers: Count | None = setting(
        None, "images that are read at once; unset: what the source needs", "a whole number of at least 1"
    )
    source: Annotated[Text | None, BeforeValidator(expand_home)] = setting(
        None, "what is ingested where no source is named", "a folder, a bucket, a manifest, tar archives or a web page"
    )
    source_kind: SourceKind | None = setting(
        None, "what the source is; unset: told by its name", "folder, bucket, manifest, shards or index"
    )
    source_name: Text | None = setting(None, "the name stored with every image; unset: where the source lies", "a text")
    include: Texts = setting((), "only files of these patterns", "patterns, with commas between them")
    exclude: Texts = setting((), "no files and folders of these patterns", "patterns, with commas between them")
    hidden: bool = setting(
        False, "whether hidden files, and what programs leave beside pictures, are taken too", "true or false"
    )
    follow_symlinks: bool = setting(True, "whether the symbolic links of a folder are followed", "true or false")
    path_pattern: Text | None = setting(
        None, "fields that the path of an image has", 'a pattern such as "{category}/{year}/*"'
    )
    uri_column: Text | None = setting(None, "the column of a manifest that names the images", "a name")
    uri_base: Annotated[Text | None, BeforeValidator(expand_home)] = setting(
        None, "where the relative paths of a manifest count from; unset: its folder", "a folder or a URL"
    )
    endpoint_url: Text | None = setting(None, "the address of a bucket that is not at its usual one", "a URL")
    object_metadata: bool = setting(True, "whether the metadata of a bucket's objects are asked for", "true or false")
    allow_private: bool = setting(False, "whether images may come from private addresses", "true or false")
    file_tags: bool = setting(True, "whether EXIF, IPTC and XMP become metadata", "true or false")
    name_dates: bool = setting(
        False, "whether a photo without a date of its own gets the one in its name", "true or false"
    )
    shard: Text | None = setting(None, "the part of the source that this worker does", "i/n, i from 0 to n - 1")
    delete: bool = setting(False, "whether images that are gone from the source are deleted", "true or false")
    max_delete: Annotated[float, BeforeValidator(_parse_share), Field(ge=0, le=1, allow_inf_nan=False)] = setting(
        0.1, "the largest part of a collection that one run may delete", "a share such as 10% or 0.1"
    )
    dedupe: Literal["off", "tag", "skip"] = setting(
        "off", "what is done with near-duplicates: stored, marked, or left out", "off, tag or skip"
    )
    state: Annotated[Path | None, BeforeValidator(expand_home)] = setting(
        None, "the state file; unset: beside an embedded store, else in the user's cache folder", "a file"
    )
    patience: _Seconds = setting(
        300.0, "seconds for which ingestion goes on trying when source or store do not answer", "a number of seconds"
    )
    bulk: bool = setting(False, "whether the server builds no index while a run lasts", "true or false")
    engine: Literal["threads", "ray"] = setting("threads", "what carries out the work", "threads or ray")
    ray_address: Text | None = setting(
        None, "the Ray cluster; unset: the one at hand, or one of this computer", "a text"
    )
    embedders: Count | None = setting(
        None,
        "processes with the model on a Ray cluster; unset: one for each GPU, or one",
        "a whole number of at least 1",
    )
    watch: bool = setting(False, "whether ingestion goes on and follows changes", "true or false")
    interval: Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, allow_inf_nan=False)] | None = setting(
        None, "seconds between whole runs while watching; unset: only what changes", "a number of seconds above 0"
    )
    health: Text | None = setting(None, "where probes, metrics and events are served", "host:port or a port")
    events_token: SecretStr | None = setting(None, "what a sender of events must show", "a text")
    log_format: Literal["text", "json"] = setting("text", "how ingestion logs", "text or json")
