"""What a run tells: its report at the end, and progress while it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Progress", "Quarantined", "Report"]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One object that could not be used. `reason` is a short, stable word, `detail` a sentence."""

    uri: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. `queued` batches of at most `queue_size` wait for a worker; `listing` goes on or is over."""

    listed: int = 0
    added: int = 0
    updated: int = 0
    payload_updated: int = 0
    skipped: int = 0
    quarantined: int = 0
    seconds: float = 0.0
    queued: int = 0
    queue_size: int = 0
    listing: bool = True

    @property
    def done(self) -> int:
        """Images that need no more attention. Quarantined sidecars count too, so it may exceed `listed`."""
        return self.added + self.updated + self.payload_updated + self.skipped + self.quarantined

    @property
    def images_per_second(self) -> float:
        """Embedded images per second since the start."""
        return (self.added + self.updated) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run. Each image listed is in one of the four counts, quarantined, or left by an interrupt.

    `added` were new, `updated` embedded anew, `payload_updated` had only a new caption, metadata or file date,
    `skipped` were unchanged. `busy` has the seconds that threads spent in each stage: plan, read, decode, embed, write;
    summed over threads they may exceed `seconds`, the time from start to end.
    """

    listed: int = 0
    added: int = 0
    updated: int = 0
    payload_updated: int = 0
    skipped: int = 0
    quarantined: tuple[Quarantined, ...] = ()
    seconds: float = 0.0
    busy: Mapping[str, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def images_per_second(self) -> float:
        """Embedded images per second."""
        return (self.added + self.updated) / self.seconds if self.seconds > 0 else 0.0
