"""What runs the stages: threads of this process, or a Ray cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.run.decisions import Task
from clip_qdrant_ingestion.run.report import StageTime
from clip_qdrant_ingestion.run.stages import DuplicateFinder, ObjectOutcome
from clip_qdrant_ingestion.sources.protocol import Source

__all__ = ["Cluster", "Engine"]


class Engine(Protocol):
    """Carries the tasks of one run through the stages, and tells once of each what became of it."""

    @property
    def seconds(self) -> float:
        """How long the run takes, or took."""

    def stage_times(self) -> Mapping[str, StageTime]:
        """The work of each stage so far."""

    def queues(self) -> Mapping[str, tuple[int, int]]:
        """How many objects, or batches, wait for each stage, and how many may."""

    def run(self, tasks: Iterator[list[Task]]) -> None:
        """Carries all tasks through, or as many as there is time for until it is stopped."""


class Cluster(Protocol):
    """Makes engines on other machines."""

    def engine(
        self,
        source: Source,
        tell: Callable[[ObjectOutcome], None],
        *,
        options: IngestOptions,
        duplicates: DuplicateFinder | None,
        stop: threading.Event,
        tick: Callable[[], None],
    ) -> Engine:
        """An engine for one run. `tick` is called on the calling thread of `run`, about ten times a second."""
