"""AuditLog: who changed what, a line of JSON for each write."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["AuditLog"]

logger = logging.getLogger(__name__)


class AuditLog:
    """Appends to a file, which may be moved away at any time (logrotate); without one it is a part of the log."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises OSError if nothing can be appended to the file."""
        if self._path is not None:
            os.close(self._open(self._path))

    def write(self, event: Mapping[str, Any]) -> None:
        """Adds what happened now. What was done is done: a line that cannot be written goes to the log instead."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(), **event}, ensure_ascii=True)
        if self._path is None:
            logger.info("%s", line)
            return
        try:
            with self._lock:
                file = self._open(self._path)
                try:
                    os.write(file, line.encode() + b"\n")
                finally:
                    os.close(file)
        except OSError as error:
            logger.error("cannot write to the audit log: %s; not in it: %s", error, line)  # noqa: TRY400

    @staticmethod
    def _open(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
