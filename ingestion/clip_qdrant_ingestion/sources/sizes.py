"""Checks of the bytes that came."""

from __future__ import annotations

from clip_qdrant.errors import ImageTooLarge, SourceError
from clip_qdrant.images.load import Limits

__all__ = ["check_size", "check_whole"]


def check_size(shown: str, size: int | None, limits: Limits) -> None:
    """Raises ImageTooLarge for more bytes than the limit."""
    if size is not None and size > limits.max_bytes:
        raise ImageTooLarge(f"{shown} has {size} bytes; the limit is {limits.max_bytes}")


def check_whole(shown: str, came: int, size: int | None, *, transient: bool = True) -> None:
    """Raises SourceError where not all the bytes came that there are."""
    if size is not None and came != size:
        raise SourceError(f"cannot read {shown}: {came} of {size} bytes came", transient=transient)
