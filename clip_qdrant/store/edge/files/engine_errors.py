"""Errors of the engine, told as ours.

It raises bare Exception, ValueError or OverflowError for an argument; its panics derive from BaseException alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clip_qdrant.errors import ClipQdrantError, StoreError, StoreFull, StoreLocked
from clip_qdrant.store.edge.convert.payload_keys import explain_wrong_key
from clip_qdrant.store.edge.files.room import NO_ROOM

__all__ = ["engine_errors"]


@contextlib.contextmanager
def engine_errors(doing: str, *, advice: str = "") -> Iterator[None]:
    """What the engine raises within the block becomes a StoreError; `doing` says what could not be done.

    A payload key that it cannot read is an InvalidRequest.
    """
    try:
        yield
    except BaseException as error:
        of_engine = type(error) is Exception or type(error).__name__ == "PanicException"
        if isinstance(error, ClipQdrantError) or not (of_engine or isinstance(error, ValueError | OverflowError)):
            raise
        if "WouldBlock" in str(error):
            raise StoreLocked(f"cannot {doing}: it is open in another process") from error
        if any(f"os error {number})" in str(error) for number in NO_ROOM):
            raise StoreFull(f"cannot {doing}: {error}; make room on the disk and run it again") from error
        if (wrong_key := explain_wrong_key(error)) is not None:
            raise wrong_key from error
        raise StoreError(f"cannot {doing}: {error}{advice}") from error
