"""What transformers warns of and encoders have no part in: the tokens that begin and end what other models write.

Configurations of SigLIP have those of CLIP by default, beyond their own vocabulary; nothing reads them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

__all__ = ["pass_over_token_warnings"]

_LOGGER = "transformers.configuration_utils"
_WARNING = "_token_id must be `None` or an integer within the vocabulary"


@contextlib.contextmanager
def pass_over_token_warnings() -> Iterator[None]:
    """Within it, and in a function that it decorates, the log is not told of them."""

    def is_of_use(record: logging.LogRecord) -> bool:  # a new one each time: threads take off their own
        return _WARNING not in record.getMessage()

    logger = logging.getLogger(_LOGGER)
    logger.addFilter(is_of_use)
    try:
        yield
    finally:
        logger.removeFilter(is_of_use)
