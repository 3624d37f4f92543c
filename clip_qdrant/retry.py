"""retry(): the one rule by which this package tries again what may pass by itself."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

__all__ = ["retry"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


def retry(
    operation: Callable[[], _T],
    *,
    what: str,
    patience: float,
    may_pass: Callable[[BaseException], bool],
    longest_pause: float = 10.0,
    least_pause: Callable[[BaseException], float] = lambda error: 0.0,  # noqa: ARG005
    from_failure: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> _T:
    """The result of `operation`, which is tried again after each error that `may_pass`. `what` names it in the log.

    The pauses double from 0.1 s to `longest_pause`, and a random part keeps threads that failed together from coming
    back together; none is shorter than the `least_pause` its error asks for. The last try begins within `patience`
    seconds of the first or, with `from_failure`, of the first failure: then a long download that breaks off is tried
    again too. Raises what the last try raised.
    """
    began = time.monotonic()
    # Nearly all succeed at once: the machinery of trying again, 0.04 ms, is for those that do not.
    try:
        return operation()
    except BaseException as error:
        if not may_pass(error):
            raise
        failures = [error]

    def attempt() -> _T:
        if failures:  # the first attempt has been made
            raise failures.pop()
        return operation()

    back_off = wait_exponential(multiplier=0.1, max=longest_pause) + wait_random(0, 0.1)
    first_failure: float | None = None

    def pause(state: RetryCallState) -> float:
        error = _error_of(state)
        return max(back_off(state), least_pause(error) if error is not None else 0.0)

    def is_over(state: RetryCallState) -> bool:
        nonlocal first_failure
        now = state.outcome_timestamp or state.start_time
        first_failure = now if first_failure is None else first_failure
        return now + state.upcoming_sleep - (first_failure if from_failure else began) >= patience

    attempts = Retrying(
        stop=is_over,
        wait=pause,
        retry=retry_if_exception(may_pass),
        sleep=sleep,
        before_sleep=lambda state: logger.info("%s failed, trying again: %s", what, _error_of(state)),
        reraise=True,
    )
    try:
        return attempts(attempt)
    except BaseException as error:
        # Frames of tenacity hold the error that holds them. With them it would hold what its catchers have at hand,
        # such as the bytes of an image that is read again, until the collector comes by.
        traceback.clear_frames(error.__traceback__)
        raise


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
