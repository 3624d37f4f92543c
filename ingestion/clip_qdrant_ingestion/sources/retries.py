"""Requests of a source that are tried again while what is wrong may pass by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay
from tenacity.wait import wait_random_exponential

from clip_qdrant.errors import SourceError

__all__ = ["patiently"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


def patiently(request: Callable[[], T], *, seconds: float) -> T:
    """The result of `request`, tried again after each transient SourceError.

    The pauses are random and grow, to 10 s at most, so that a throttling store is not met by all threads at once. The
    last try begins within `seconds` of the first. Raises what the last try raised.
    """
    attempts = Retrying(
        stop=stop_before_delay(seconds),
        wait=wait_random_exponential(multiplier=0.2, max=10),
        retry=retry_if_exception(lambda error: isinstance(error, SourceError) and error.transient),
        before_sleep=_tell,
        reraise=True,
    )
    return attempts(request)


def _tell(state: RetryCallState) -> None:
    logger.info("trying again: %s", state.outcome.exception() if state.outcome else None)
