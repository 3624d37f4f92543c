"""Where the log goes is for the program to say: other libraries that set it up on the way are kept from it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["keep_log_handlers"]


@contextlib.contextmanager
def keep_log_handlers() -> Iterator[None]:
    """Within it, a library that gives the root logger a handler unless there is one, as `logging.info` does, finds one.

    What it tells the root logger itself is passed over where the program has set nothing up.
    """
    placeholder = logging.NullHandler()
    logging.getLogger().addHandler(placeholder)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(placeholder)
