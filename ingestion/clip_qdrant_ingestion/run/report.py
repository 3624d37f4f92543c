"""What a run tells: outcomes of single objects, its report at the end, and progress while it goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from clip_qdrant.errors import shorten
from clip_qdrant.uris import LONGEST_URI

__all__ = [
    "COUNTS",
    "Duplicate",
    "LeftOutField",
    "Plan",
    "Progress",
    "Quarantined",
    "Report",
    "StageTime",
    "stage_times",
]

_LONGEST_DETAIL = 2000  # characters


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One object that could not be used. `reason` is a short, stable word, `detail` a sentence.

    `permanent`: the bytes are at fault, so it stays so until they change. They are told by `etag`, `size` and `mtime`.
    """

    uri: str
    reason: str
    detail: str
    permanent: bool = False
    etag: str | None = None
    size: int | None = None
    mtime: float | None = None

    def bounded(self) -> Quarantined:
        """This row for tables, logs and the state file: names and what files say of themselves may be of any length."""
        return replace(self, uri=shorten(self.uri, LONGEST_URI), detail=shorten(self.detail, _LONGEST_DETAIL))


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An image that was left out because it nearly equals the one at `first`."""

    uri: str
    first: str
    etag: str | None = None
    size: int | None = None
    mtime: float | None = None


@dataclass(frozen=True, slots=True)
class LeftOutField:
    """A field that could not be stored with `count` images, which were stored without it.

    `detail` says why, of the first of them, which is at `uri`.
    """

    field: str
    count: int
    uri: str
    detail: str


@dataclass(frozen=True, slots=True)
class StageTime:
    """The work of one stage: the `seconds` that its `threads` worked, added up."""

    seconds: float
    threads: int
    share: float  # 0 to 1: seconds / (threads x seconds of the run); the stage nearest to 1 sets the pace


def stage_times(busy: Mapping[str, float], threads: Mapping[str, int], seconds: float) -> dict[str, StageTime]:
    """The work of the stages that did any: `busy` seconds by stage, of so many `threads` in a run of `seconds`."""
    return {
        name: StageTime(busy[name], number, min(1.0, busy[name] / (number * seconds)) if seconds else 0.0)
        for name, number in threads.items()
        if name in busy
    }


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. `queues` has by stage how many objects wait for it, and how many may."""

    listed: int = 0
    added: int = 0
    updated: int = 0
    renamed: int = 0
    copied: int = 0
    payload_updated: int = 0
    skipped: int = 0
    duplicates: int = 0
    still_bad: int = 0
    quarantined: int = 0
    deleted: int = 0
    seconds: float = 0.0
    queues: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)  # busy share by stage so far, 0 to 1
    listing: bool = True

    @property
    def done(self) -> int:
        """Objects that need no more attention. Quarantined sidecars count too, so it may exceed `listed`."""
        stored = self.added + self.updated + self.renamed + self.copied + self.payload_updated
        return stored + self.skipped + self.duplicates + self.still_bad + self.quarantined

    @property
    def images_per_second(self) -> float:
        """Embedded images per second since the start."""
        return (self.added + self.updated) / self.seconds if self.seconds > 0 else 0.0


COUNTS = (
    "listed", "added", "updated", "renamed", "copied", "payload_updated", "skipped", "duplicates", "still_bad", "gone",
    "deleted",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run. Each image listed is in one of the counts, quarantined, or left by an interrupt.

    `added` were new, `updated` embedded anew; `renamed` and `copied` were new names of bytes that had been met before,
    which are no longer, or still, where they were; `payload_updated` had only a new caption, metadata, file date or
    mark of a duplicate; `skipped` were unchanged; `duplicates` were left out; `still_bad` were quarantined before and
    have not changed since. `gone` images are stored and no longer where they were, and `deleted` of them were
    removed, if that was asked for; None where it cannot be told. `refused` says why some were not deleted although it
    was asked for. `fields_left_out` could not be stored with images that were. `passed_over` counts the files that are
    no images to the source, by kind: a suffix, "no suffix", "link", "dead link".
    """

    listed: int = 0
    added: int = 0
    updated: int = 0
    renamed: int = 0
    copied: int = 0
    payload_updated: int = 0
    skipped: int = 0
    still_bad: int = 0
    duplicates: int = 0
    gone: int | None = None
    deleted: int = 0
    refused: str | None = None
    quarantined: tuple[Quarantined, ...] = ()
    fields_left_out: tuple[LeftOutField, ...] = ()
    seconds: float = 0.0
    stages: Mapping[str, StageTime] = field(default_factory=dict)
    interrupted: bool = False
    passed_over: Mapping[str, int] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Embedded images per second."""
        return (self.added + self.updated) / self.seconds if self.seconds > 0 else 0.0

    @property
    def bottleneck(self) -> str | None:
        """The stage that set the pace, None where nothing was done."""
        return max(self.stages, key=lambda name: self.stages[name].share, default=None)

    @property
    def outcome(self) -> str:
        """`interrupted`, `refused` (deletions were asked for and not applied) or `done`."""
        if self.interrupted:
            return "interrupted"
        return "refused" if self.refused else "done"

    def document(self) -> dict[str, Any]:
        """The report in JSON types."""
        return {**asdict(self), "bottleneck": self.bottleneck, "images_per_second": round(self.images_per_second, 2)}

    def summary(self) -> dict[str, Any]:
        """The report in JSON types, its quarantined objects counted by reason instead of listed."""
        reasons = Counter(row.reason for row in self.quarantined)
        document = replace(self, quarantined=()).document()
        return document | {"quarantined": len(self.quarantined), "reasons": dict(reasons.most_common())}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do, found without storing anything: how many objects of each kind, and some of each by uri.

    `new` and `changed` would be read and embedded; `renamed` would take over a vector; `described` would get a new
    payload only; `still_bad` and `still_duplicates` would be passed over; `gone` are stored and no longer where
    they were.
    """

    new: int = 0
    changed: int = 0
    renamed: int = 0
    described: int = 0
    unchanged: int = 0
    still_bad: int = 0
    still_duplicates: int = 0
    gone: int = 0
    listed: int = 0
    complete: bool = True  # whether the whole source could be listed; if not, nothing is taken for gone
    quarantined: tuple[Quarantined, ...] = ()
    fields_left_out: tuple[LeftOutField, ...] = ()
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)  # as in Report

    def document(self) -> dict[str, Any]:
        """The plan in JSON types."""
        rows = ("quarantined", "fields_left_out")
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name not in rows} | {
            name: [asdict(row) for row in getattr(self, name)] for name in rows
        }
