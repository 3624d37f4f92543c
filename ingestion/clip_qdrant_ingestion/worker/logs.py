"""Log lines for machines: one JSON object a line.

    {"time": "2026-03-01T12:00:00.123Z", "level": "WARNING", "logger": "clip_qdrant_ingestion.run.bulk", "message": "…"}

Fields given by `extra=` follow, but for those that begin with `_`, and `exception` with the traceback. The lines are
ASCII: what a terminal would act on, and file names that are no UTF-8, are escaped. User and password in URLs are
masked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from clip_qdrant.errors import ConfigError, shorten
from clip_qdrant.url_secrets import mask_secrets

__all__ = ["JsonFormatter", "json_logging"]

_LOGGERS = ("clip_qdrant", "clip_qdrant_training", "clip_qdrant_ingestion", "py.warnings")
_LONGEST_TEXT = 1 << 14  # characters of a message, a field or a traceback
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON; its time in UTC as RFC 3339 has it."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _plain(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = _plain(self.formatException(record.exc_info))
        for name, value in vars(record).items():
            if name not in _USUAL and not name.startswith("_"):  # those are what libraries add for themselves, as Ray
                line.setdefault(_plain(name), _plain(value))
        return json.dumps(line)


@contextlib.contextmanager
def json_logging(stream: TextIO | None = None, *, level: str = "INFO") -> Iterator[None]:
    """While it lasts, this package logs to `stream` (stderr) in JSON from `level` on, and so do Python's warnings.

    That replaces what its loggers were connected to; other loggers are left alone. Raises ConfigError for a level that
    there is not.
    """
    if level.upper() not in _LEVELS:
        raise ConfigError(f"the log level is {level!r}: choose {', '.join(_LEVELS)}")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter())
    before = [(logger, logger.level, logger.handlers) for logger in map(logging.getLogger, _LOGGERS)]
    logging.captureWarnings(True)
    for logger, _, _ in before:
        logger.handlers = [handler]
        logger.setLevel(level.upper())
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, old, handlers in before:
            logger.handlers = handlers
            logger.setLevel(old)


def _plain(value: Any) -> Any:
    """A value as JSON has it; what it has not becomes its text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(_plain(str(name))): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    text = shorten(mask_secrets(str(value)), _LONGEST_TEXT)
    return text.encode(errors="backslashreplace").decode()  # half a character is no JSON
