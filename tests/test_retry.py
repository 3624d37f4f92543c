"""retry() holds on to nothing: neither to what failed nor to what its callers have at hand."""

from __future__ import annotations

import gc
import weakref

import pytest

from clip_qdrant.retry import retry


class Image:
    """Stands for the bytes of an image."""


def fail() -> None:
    raise OSError("not so much")


def use(patience: float) -> weakref.ref[Image]:
    """Meets an error and goes on with an image."""
    with pytest.raises(OSError, match="not so much"):
        retry(fail, what="read", patience=patience, may_pass=lambda _: True, sleep=lambda _: None)
    image = Image()
    return weakref.ref(image)


@pytest.mark.parametrize("patience", [0, 0.05])
def test_what_a_caller_has_at_hand_is_free_as_soon_as_it_is_done(patience: float) -> None:
    gc.collect()
    gc.disable()
    try:
        assert use(patience)() is None
    finally:
        gc.enable()
