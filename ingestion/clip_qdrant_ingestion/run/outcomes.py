"""Outcomes: counts what became of the objects of a run, and keeps in the state file what was put away."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from clip_qdrant.errors import MetadataError, shorten
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant_ingestion.run.report import Duplicate, LeftOutField, Quarantined
from clip_qdrant_ingestion.run.stages import ObjectOutcome

if TYPE_CHECKING:
    from clip_qdrant_ingestion.state.put_away import PutAway

__all__ = ["Outcomes"]

logger = logging.getLogger(__name__)

_ROWS_A_WRITE = 500
_MOST_FIELDS = 100  # that are told of by name
_OTHERS = "other fields"
_LONGEST_NAME, _LONGEST_DETAIL = 200, 500  # characters


class Outcomes:
    """Counts outcomes, which may come from any thread.

    With `compares` it keeps the uris of images that were embedded anew: others may be left out, or marked, because of
    what these were before.
    """

    def __init__(self, put_away: PutAway | None = None, *, compares: bool = False) -> None:
        self._state, self._compares = put_away, compares
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._still: list[str] = []
        self._put_away: list[Quarantined | Duplicate] = []
        self._settled: list[str] = []
        self._changed: list[str] = []
        self.quarantined: list[Quarantined] = []
        self.changed: list[str] = []  # images that were embedded anew, if it compares
        self.moved: set[str] = set()  # old uris of images that were renamed
        self._firsts: dict[str, str] = {}  # by uri of an image that is left out
        self._fields: dict[str, LeftOutField] = {}

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

    def note_duplicate(self, uri: str) -> None:
        """A stored image turned out to be a duplicate: those that were compared with it have another first now."""
        with self._lock:
            self._changed.append(uri)
            self.changed.append(uri)

    def count_fields(self, uri: str, left_out: Iterable[MetadataError]) -> None:
        """Counts fields that cannot be stored with an image that is not told of."""
        with self._lock:
            for error in left_out:
                self._count_field(uri, error)

    def counts(self) -> Counter[str]:
        """By count of a Report, "quarantined", and "objects": all that were told of."""
        with self._lock:
            return Counter(self._counts)

    def fields_left_out(self) -> tuple[LeftOutField, ...]:
        """The fields that could not be stored, most frequent first."""
        with self._lock:
            return tuple(sorted(self._fields.values(), key=lambda one: (-one.count, one.field)))

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
        for error in outcome.left_out:
            self._count_field(outcome.uri, error)
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
            if what in ("added", "updated", "renamed", "copied", "payload_updated"):
                self._settled.append(outcome.uri)
            if outcome.moved_from is not None:
                self.moved.add(outcome.moved_from)
            if what == "updated":
                self._changed.append(outcome.uri)
                if self._compares:
                    self.changed.append(outcome.uri)

    def _count_field(self, uri: str, error: MetadataError) -> None:
        name = shorten(error.field or "metadata", _LONGEST_NAME)
        if name not in self._fields and len(self._fields) >= _MOST_FIELDS:
            name = _OTHERS  # a stranger's file may name any number of them
        before = self._fields.get(name)
        if before is not None:
            self._fields[name] = replace(before, count=before.count + 1)
            return
        detail = mask_secrets(shorten(str(error).removeprefix(f"{uri}: "), _LONGEST_DETAIL))
        self._fields[name] = LeftOutField(name, 1, uri, detail)
        logger.warning("the field %s of %s is not stored: %s", name, uri, detail)

    def _remember_many(self) -> None:
        if len(self._still) + len(self._put_away) + len(self._settled) >= _ROWS_A_WRITE:
            self._remember()

    def _remember(self) -> None:
        if self._state is not None:
            if self._still:
                self._state.keep(self._still)
            if self._put_away:
                self._state.put(self._put_away)
            if self._settled:
                self._state.settle(self._settled)
            if self._changed:
                self._state.release(self._changed)
        self._still, self._put_away, self._settled, self._changed = [], [], [], []
