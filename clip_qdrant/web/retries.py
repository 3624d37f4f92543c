"""Requests of a source, tried again while what is wrong with them may pass by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from clip_qdrant.errors import SourceError
from clip_qdrant.retry import retry

__all__ = ["is_transient", "retry_request"]

_T = TypeVar("_T")


def retry_request(request: Callable[[], _T], *, patience: float, sleep: Callable[[float], None] = time.sleep) -> _T:
    """The result of `request`, tried again after each transient SourceError.

    The last try begins within `patience` seconds of the first failure. Raises what the last try raised.
    """
    return retry(request, what="a request", patience=patience, may_pass=is_transient, from_failure=True, sleep=sleep)


def is_transient(error: BaseException) -> bool:
    """Whether this is the failure of a source that may pass by itself."""
    return isinstance(error, SourceError) and error.transient
