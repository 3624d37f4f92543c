"""What the engine says of a payload key that it cannot read, told as ours."""

from __future__ import annotations

from clip_qdrant.errors import InvalidRequest

__all__ = ["explain_wrong_key"]

_WORDS = "invalid JSON path "


def explain_wrong_key(error: BaseException) -> InvalidRequest | None:
    """The refusal of the key that an error of the engine is about; None for an error about something else."""
    before, words, key = str(error).partition(_WORDS)
    if before or not words:
        return None
    return InvalidRequest(
        f"{key!r} is no payload key: keys within keys are joined by dots, a key of a list has [] after it (a.b[].c), "
        'and one with other signs than letters, digits, - and _ is in double quotes ("a[b")'
    )
