"""ServiceOptions: what a service allows, and how much it does at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from clip_qdrant.images.load import DEFAULT_LIMITS, Limits
from clip_qdrant.service.batching.options import BatchingOptions
from clip_qdrant.service.ingest.rules import IngestRules

__all__ = ["ServiceOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """Limits are those of one request unless they say otherwise.

    `collection` is the one that is meant where a request names none. `deadline` is in seconds, until the answer begins.
    `threads` calls of the library run at once, and `waiting` more may wait for one of them; what comes beyond is
    answered by 503 with `retry_after` seconds. `max_batch` is the number of images or texts, `max_query_length` of
    characters in a text or a filter, `max_hits` of hits with those that an offset skips. `limits` are those of an
    image. Pages of `cors_origins` ("https://photos.example.com") may call the service from a browser. `allow_private`
    lets images be fetched from addresses that are not public. Thumbnails are kept in `thumbnail_cache_bytes` of memory.
    `model_names` are what clients of the embedding endpoints call the model, the first what answers do. `batching` says
    how requests share the encoder, and `ingest` what runs of ingestion may do.
    The last three are those of ImageCollection, for collections that are created here.
    """

    collection: str = "images"
    deadline: float = 30.0
    threads: int = 40
    waiting: int = 200
    retry_after: int = 1
    max_body_bytes: int = 64 << 20
    max_batch: int = 256
    max_query_length: int = 4000
    max_hits: int = 1000
    limits: Limits = DEFAULT_LIMITS
    cors_origins: tuple[str, ...] = ()
    allow_private: bool = False
    thumbnail_cache_bytes: int = 64 << 20
    model_names: tuple[str, ...] = ("clip-qdrant",)
    batching: BatchingOptions = field(default_factory=BatchingOptions)
    ingest: IngestRules = field(default_factory=IngestRules)
    shard_number: int | None = None
    replication_factor: int | None = None
    indexes: tuple[str, ...] = ()
