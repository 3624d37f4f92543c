"""IngestOptions: how runs of ingestion go. Made once, by the CLI or by `ingest` and `plan`, and handed on whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from clip_qdrant.errors import ConfigError
from clip_qdrant.images.load import Limits

__all__ = ["Dedupe", "IngestOptions"]

Dedupe = Literal["off", "tag", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """What is the same for every run. `ingest` says what each means.

    `workers` decode and `readers` read; None means as many threads as there are cores, and as the source asks for.
    Raises ConfigError for a value that cannot be used.
    """

    batch_size: int = 64
    workers: int | None = None
    readers: int | None = None
    limits: Limits = field(default_factory=Limits)
    delete: bool = False
    max_delete: float = 0.1
    owns: Callable[[str], bool] | None = None
    dedupe: Dedupe = "off"
    tags: bool = True
    name_dates: bool = False
    retry_failed: bool = False
    patience: float = 60.0
    bulk: bool = False

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("workers", self.workers), ("readers", self.readers)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")
        if not 0 <= self.max_delete <= 1:
            raise ConfigError(f"max_delete is a share of the collection, 0 to 1, not {self.max_delete!r}")
        if self.dedupe not in get_args(Dedupe):
            raise ConfigError(f"dedupe must be off, tag or skip, not {self.dedupe!r}")
