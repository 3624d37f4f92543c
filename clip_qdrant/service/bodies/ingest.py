"""Requests of ingestion, and where a run stands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from clip_qdrant.service.bodies.body import FieldName, Finite, OpenBody, RequestBody, ResponseBody
from clip_qdrant.service.bodies.search import CollectionName

__all__ = ["IngestBody", "IngestOutcome", "IngestProgress", "IngestReport", "IngestRunBody", "IngestRunsAnswer"]

IngestOutcome = Literal["running", "done", "refused", "interrupted", "failed"]

_Patterns = Annotated[list[Annotated[str, Field(min_length=1, max_length=1024)]], Field(max_length=100)]


class IngestBody(RequestBody):
    """Starts a run: the collection is brought to the state of a source."""

    collection: CollectionName | None = None
    source: Annotated[
        str,
        Field(
            min_length=1,
            max_length=8192,
            description="A folder, bucket, manifest, tar archive or web page, where the service may read.",
        ),
    ]
    kind: (
        Annotated[
            Literal["folder", "bucket", "manifest", "shards", "index"],
            Field(description="What the source is; without it, its name tells."),
        ]
        | None
    ) = None
    name: (
        Annotated[str, Field(min_length=1, max_length=1024, description="Stored with every image as `source.name`.")]
        | None
    ) = None
    include: Annotated[_Patterns, Field(description="Only files of these patterns.")] | None = None
    exclude: Annotated[_Patterns, Field(description="No files and folders of these patterns.")] | None = None
    path_pattern: (
        Annotated[
            str, Field(min_length=1, max_length=1024, description="Fields in the path, as `{category}/{year}/*`.")
        ]
        | None
    ) = None
    uri_column: Annotated[FieldName, Field(description="The column of a manifest that names the images.")] | None = None
    delete: Annotated[bool, Field(description="Delete images that are gone from the source.")] = False
    max_delete: Annotated[
        Finite, Field(ge=0, le=1, description="The largest share of the collection that the run may delete.")
    ] = 0.1
    dedupe: Annotated[
        Literal["off", "tag", "skip"], Field(description="Near-duplicates: stored, marked, or left out.")
    ] = "off"
    file_tags: Annotated[bool, Field(description="Make EXIF, IPTC and XMP metadata.")] = True
    name_dates: Annotated[bool, Field(description="Take a date from the name of a photo that has no other.")] = False
    retry_failed: Annotated[bool, Field(description="Read again what earlier runs put in quarantine.")] = False


class IngestProgress(OpenBody):
    """How many objects were met, and what became of them so far."""

    listed: int
    done: int
    added: int
    updated: int
    skipped: int
    quarantined: int
    deleted: int
    seconds: float
    images_per_second: float
    listing: Annotated[bool, Field(description="Whether more objects may come.")]


class IngestReport(OpenBody):
    """What a run did: how many objects came to what, and which could not be used."""

    listed: int
    added: int
    updated: int
    skipped: int
    deleted: int
    quarantined: list[dict[str, Any]]
    seconds: float
    interrupted: bool


class IngestRunBody(ResponseBody):
    """A run: where it stands and, once it is over, its report without the list of quarantined objects."""

    id: str
    collection: str
    source: str
    state: Annotated[
        IngestOutcome, Field(description="`refused`: done, but images that are gone were too many to delete.")
    ]
    started_at: str
    ended_at: str | None = None
    progress: IngestProgress
    report: Annotated[dict[str, Any], Field(description="The counts, the quarantined by reason.")] | None = None
    error: Annotated[str, Field(description="What ended a run that failed.")] | None = None


class IngestRunsAnswer(ResponseBody):
    """The runs since the service started, the newest first."""

    runs: list[IngestRunBody]
