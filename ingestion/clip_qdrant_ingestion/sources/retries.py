"""Requests of a source that are tried again while what is wrong may pass by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.wait import wait_random_exponential

from clip_qdrant.errors import SourceError

__all__ = ["patiently"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


def patiently(request: Callable[[], T], *, seconds: float) -> T:
    """The result of `request`, tried again after each transient SourceError.

    The pauses are random and grow, to 10 s at most, so that a throttling store is not met by all threads at once. The
    last try begins within `seconds` of the first failure: a long download that breaks off is tried again too. Raises
    what the last try raised.
    """
    attempts = Retrying(
        stop=_stop_after(seconds),
        wait=wait_random_exponential(multiplier=0.2, max=10),
        retry=retry_if_exception(lambda error: isinstance(error, SourceError) and error.transient),
        before_sleep=_tell,
        reraise=True,
    )
    return attempts(request)


def _stop_after(seconds: float) -> Callable[[RetryCallState], bool]:
    first: float | None = None

    def stop(state: RetryCallState) -> bool:
        nonlocal first
        now = state.outcome_timestamp or 0.0
        first = now if first is None else first
        return now + state.upcoming_sleep - first >= seconds

    return stop


def _tell(state: RetryCallState) -> None:
    logger.info("trying again: %s", state.outcome.exception() if state.outcome else None)
