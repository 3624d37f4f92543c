"""Decides whether an error is one quarantined row or the end of the run.

A bad image, bad metadata or a failed read is a row. A store, a model or a source that does not answer any more ends it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
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
    StoreError,
    StoreFull,
    StoreLocked,
    StoreUnavailable,
    UnsupportedByEdge,
)
from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant_ingestion.run.report import Quarantined
from clip_qdrant_ingestion.sources.protocol import SourceObject
from clip_qdrant_ingestion.sources.retries import is_transient, retry_request

__all__ = ["Retries", "Stopped", "bisect_work", "quarantine"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_OF_THE_STORE = (StoreUnavailable, StoreLocked, StoreFull, CollectionNotFound, UnsupportedByEdge)
_FAILURES_IN_A_ROW = 50
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
    """

    def __init__(self, *, patience: float, stop: threading.Event) -> None:
        self._patience, self._stop = patience, stop
        self._halted = threading.Event()
        self._in_a_row = 0
        self._lock = threading.Lock()

    def __call__(self, operation: Callable[[], _T]) -> _T:
        try:
            result = retry_request(operation, patience=self._patience, sleep=self._pause)
        except SourceError as error:
            if is_transient(error) and (failures := self._count_failure()) >= _FAILURES_IN_A_ROW:
                raise SourceUnavailable(
                    f"{error}; {failures} reads in a row failed so, each tried again for "
                    f"{self._patience:g} s: run it again when the source answers"
                ) from error
            raise
        with self._lock:
            self._in_a_row = 0
        return result

    def _count_failure(self) -> int:
        with self._lock:
            self._in_a_row += 1
            return self._in_a_row

    def halt(self) -> None:
        """Nothing is tried again from now on."""
        self._halted.set()

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._stop.is_set() or self._halted.wait(min(left, _STEP)):
                raise Stopped
