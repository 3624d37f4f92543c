"""Decides whether an error is one quarantined row or the end of the run.

A bad image, bad metadata or a failed read is a row. A store, a model or a source that does not answer any more ends it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from clip_qdrant.errors import (
    ClipQdrantError,
    CollectionNotFound,
    ImageError,
    InvalidPoint,
    MetadataError,
    SourceError,
    SourceUnavailable,
    StateError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
    TooFewIndexes,
    UnsupportedByEdge,
)
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant.web.retries import is_transient, retry_request
from clip_qdrant_ingestion.run.report import Quarantined
from clip_qdrant_ingestion.sources.protocol import SourceObject

__all__ = ["Retries", "Stopped", "bisect_work", "quarantine"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_OF_THE_STORE = (
    StoreUnavailable,
    StoreLocked,
    StoreFull,
    StoreDamaged,
    TooFewIndexes,
    CollectionNotFound,
    UnsupportedByEdge,
)
_FAILURES_IN_A_ROW = 50
_PLACES_IN_A_ROW = 10
_MISSED_IN_A_ROW = 10_000
_STEP = 0.1  # seconds between looks at whether to stop


def quarantine(item: SourceObject, error: Exception) -> Quarantined:
    """The row for an object that cannot be used because of `error`. Raises the error if it is not of one object."""
    if isinstance(error, ImageError):
        reason = error.reason
    elif isinstance(error, MetadataError):
        reason = "bad metadata"
    elif isinstance(error, InvalidPoint):
        reason = "bad vector"
    elif isinstance(error, SourceUnavailable | StoreUnavailable):
        raise error
    elif isinstance(error, SourceError):
        reason = "unreadable"
    elif isinstance(error, StoreError) and not isinstance(error, _OF_THE_STORE):
        reason = "refused by the store"
    elif isinstance(error, ClipQdrantError):
        raise error
    else:  # a source of somebody else, a model that fails at one picture: one image must not end the run
        logger.debug("unexpected error at %s", item.uri, exc_info=error)
        return Quarantined(item.uri, "error", mask_secrets(f"{type(error).__name__}: {error}")).bounded()
    permanent = isinstance(error, ImageError)
    detail = mask_secrets(str(error))
    return Quarantined(item.uri, reason, detail, permanent, item.etag, item.size, item.mtime).bounded()


def bisect_work(
    items: Sequence[_T], work: Callable[[Sequence[_T]], object], culprit: Callable[[_T, Exception], None]
) -> None:
    """Does the work on all items at once. Where that fails it halves them until `culprit` gets each that fails alone.

    If several fail alone and none succeeds, the fault is not theirs, and the first error is raised. Errors of the
    store as such are raised at once, and so is what `culprit` raises.
    """
    found: list[tuple[_T, Exception]] = []
    groups = [list(items)] if items else []
    done = 0
    while groups:
        group = groups.pop()
        try:
            work(group)
            done += len(group)
        except (*_OF_THE_STORE, StateError):  # of no item, whichever is done first
            raise
        except Exception as error:  # noqa: BLE001  what it is decides `culprit`
            if len(group) > 1:
                groups += [group[len(group) // 2 :], group[: len(group) // 2]]
            else:
                found.append((group[0], error))
    if not done and len(found) > 1 and not any(isinstance(error, MetadataError | InvalidPoint) for _, error in found):
        raise found[0][1]
    for item, reason in found:
        culprit(item, reason)


class Stopped(BaseException):
    """The run was stopped while something waited for its next try. No error of an image, so no Exception."""


class Retries:
    """Tries again what a source could not do for the moment (`retry_request`), for `patience` seconds.

    An error that is not transient is raised at once. If the patience is used up _FAILURES_IN_A_ROW times with no
    success in between, in any thread, the source is gone: SourceUnavailable. Raises Stopped if there is something to
    try again, and `stop` is set or `halt` was called.

    With `many_places`, as the hosts that a table names, failures are counted for each. A place that is gone is asked no
    more: what is there fails at once, and the others go on. The source is gone if _PLACES_IN_A_ROW places fail one
    after the other, or _MISSED_IN_A_ROW objects of places that are gone are met, and none answers in between.
    """

    def __init__(self, *, patience: float, stop: threading.Event, many_places: bool = False) -> None:
        self._patience, self._stop, self._many_places = patience, stop, many_places
        self._halted = threading.Event()
        self._failures: Counter[str] = Counter()  # by place, since it last answered
        self._gone: dict[str, str] = {}  # what was wrong last, by place
        self._places: set[str] = set()  # that failed since any answered
        self._in_a_row = self._missed = 0  # failures, and objects that were not asked for, since any answered
        self._answered = False
        self._lock = threading.Lock()

    def __call__(self, operation: Callable[[], _T], place: str = "") -> _T:
        self._check_place(place)
        try:
            pause = partial(self._pause, place=place)
            result = retry_request(operation, patience=self._patience, sleep=pause)
        except SourceError as error:
            if is_transient(error):
                self._count_failure(place, error)
            raise
        with self._lock:
            self._failures.pop(place, None)
            self._places.clear()
            self._in_a_row = self._missed = 0
            self._answered = True
        return result

    def check_answers(self) -> None:
        """Raises SourceUnavailable if places are gone, and none has answered at all."""
        if self._gone and not self._answered:
            raise self._unavailable(next(iter(self._gone.values())))

    def _check_place(self, place: str) -> None:
        if place not in self._gone:
            return
        with self._lock:
            self._missed += 1
            missed = self._missed
        if missed >= _MISSED_IN_A_ROW:
            raise self._unavailable(self._gone[place])
        raise SourceError(f"{place} does not answer, so it is not asked any more in this run: {self._gone[place]}")

    def _count_failure(self, place: str, error: SourceError) -> None:
        with self._lock:
            self._failures[place] += 1
            self._places.add(place)
            self._in_a_row += 1
            if self._failures[place] >= _FAILURES_IN_A_ROW:
                self._gone.setdefault(place, str(error))
            is_over = self._in_a_row >= _FAILURES_IN_A_ROW and len(self._places) >= _PLACES_IN_A_ROW
        if is_over or (self._gone and not self._many_places):
            raise self._unavailable(str(error)) from error

    def _unavailable(self, detail: str) -> SourceUnavailable:
        return SourceUnavailable(
            f"{detail}; {max(self._in_a_row, _FAILURES_IN_A_ROW)} reads in a row failed so, each tried again for "
            f"{self._patience:g} s: run it again when the source answers"
        )

    def halt(self) -> None:
        """Nothing is tried again from now on."""
        self._halted.set()

    def _pause(self, seconds: float, *, place: str) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._check_place(place)
            if self._stop.is_set() or self._halted.wait(min(left, _STEP)):
                raise Stopped
