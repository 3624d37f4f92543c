"""Outcomes: counts what became of the objects of a run, and keeps in the state file what was put away."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.run.report import Duplicate, Quarantined
from clip_qdrant_ingestion.run.stages import ObjectOutcome
from clip_qdrant_ingestion.sources.protocol import SourceObject

__all__ = ["Memory", "Outcomes", "PutAway", "find_passed_over"]

logger = logging.getLogger(__name__)

_ROWS_A_WRITE = 500

# What earlier runs put away, of these objects, that has not changed since; by uri.
PutAway = Callable[[Sequence[SourceObject]], Mapping[str, "Quarantined | Duplicate"]]


class Memory(Protocol):
    """What a run remembers for the next: the state file, seen from one source and collection."""

    def known(self, objects: Sequence[SourceObject]) -> Mapping[str, Quarantined | Duplicate]:
        """What was put away before, and has not changed since."""

    def still(self, uris: Sequence[str]) -> None:
        """These are put away still: they were met again, unchanged."""

    def put_away(self, rows: Sequence[Quarantined | Duplicate]) -> None:
        """Remembers these."""

    def settle(self, uris: Sequence[str]) -> None:
        """Forgets these: they are stored, or gone."""

    def release(self, uris: Sequence[str]) -> None:
        """Forgets what was left out because of these: they are another picture now, or gone."""

    def whole(self) -> None:
        """The whole source was listed: what was neither put away nor known in this run is gone from it."""


def find_passed_over(memory: Memory | None, options: IngestOptions) -> PutAway | None:
    """What a run is to pass over; images that were left out only if it leaves duplicates out too."""
    if memory is None or options.retry_failed:
        return None

    def known(items: Sequence[SourceObject]) -> Mapping[str, Quarantined | Duplicate]:
        found = memory.known(items)
        if options.dedupe == "skip":
            return found
        return {uri: one for uri, one in found.items() if isinstance(one, Quarantined)}

    return known


class Outcomes:
    """Takes outcomes from any thread. `compares`: images are compared, or were, so what one is matters to others."""

    def __init__(self, memory: Memory | None = None, *, compares: bool = False) -> None:
        self._memory, self._compares = memory, compares
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._still: list[str] = []
        self._put_away: list[Quarantined | Duplicate] = []
        self._settled: list[str] = []
        self._changed: list[str] = []
        self.quarantined: list[Quarantined] = []
        self.changed: list[str] = []  # images that were embedded anew: they may be other pictures now
        self._firsts: dict[str, str] = {}  # by uri of an image that is left out

    def tell(self, outcome: ObjectOutcome) -> None:
        """Counts one object; each is told of once."""
        with self._lock:
            self._counts["objects"] += 1
            self._take(outcome)
            self._remember_many()

    def count_put_away(self, row: Quarantined | Duplicate) -> None:
        """Counts one object that was put away before and has not changed."""
        with self._lock:
            self._counts["objects"] += 1
            if isinstance(row, Duplicate):
                self._counts["duplicates"] += 1
                self._firsts[row.uri] = row.first
            else:
                self._counts["still_bad"] += 1
            self._still.append(row.uri)
            self._remember_many()

    def count_problem(self, row: Quarantined) -> None:
        """Counts something in the listing that is no object: a folder, a sidecar, a row."""
        with self._lock:
            self._take(ObjectOutcome(row.uri, row))

    def counts(self) -> Counter[str]:
        """By count of a Report, "quarantined", and "objects": all that were told of."""
        with self._lock:
            return Counter(self._counts)

    def flush(self) -> None:
        """Writes down what is only in memory yet."""
        with self._lock:
            self._remember()

    def reconsider(self, firsts: Collection[str]) -> list[str]:
        """The images that are left out because of these, no longer counted: each will be told of again."""
        with self._lock:
            self._remember()
            uris = [uri for uri, first in self._firsts.items() if first in firsts]
            for uri in uris:
                del self._firsts[uri]
            self._counts["duplicates"] -= len(uris)
            self._counts["objects"] -= len(uris)
            return uris

    def _take(self, outcome: ObjectOutcome) -> None:
        what = outcome.what
        if isinstance(what, Quarantined):
            logger.debug("quarantined %s: %s: %s", what.uri, what.reason, what.detail)
            self._counts["quarantined"] += 1
            self.quarantined.append(what)
            self._put_away.append(what)
        elif isinstance(what, Duplicate):
            logger.info("left out %s, nearly equal to %s", what.uri, what.first)
            self._counts["duplicates"] += 1
            self._firsts[what.uri] = what.first
            self._put_away.append(what)
        else:
            self._counts[what] += 1
            if what in ("added", "updated", "renamed", "payload_updated"):
                self._settled.append(outcome.uri)
            if what == "updated":
                self._changed.append(outcome.uri)
                if self._compares:
                    self.changed.append(outcome.uri)

    def _remember_many(self) -> None:
        if len(self._still) + len(self._put_away) + len(self._settled) >= _ROWS_A_WRITE:
            self._remember()

    def _remember(self) -> None:
        if self._memory is not None:
            if self._still:
                self._memory.still(self._still)
            if self._put_away:
                self._memory.put_away(self._put_away)
            if self._settled:
                self._memory.settle(self._settled)
            if self._changed:
                self._memory.release(self._changed)
        self._still, self._put_away, self._settled, self._changed = [], [], [], []
