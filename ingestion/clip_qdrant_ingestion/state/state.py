"""What runs of ingestion reported, and what they put away (`put_away`), in one small SQLite file.

What is ingested is not written here: Qdrant is asked for that. Losing the file costs the reports, and one more look at
each object that was quarantined or left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant_ingestion.run.report import Report
from clip_qdrant_ingestion.state.put_away import PutAway, enter_scope, to_sql_text
from clip_qdrant_ingestion.state.reader import (
    Scope,
    StateReader,
    is_folder,
)

if TYPE_CHECKING:
    from clip_qdrant.images.load import Limits

__all__ = ["IngestState", "context_of", "default_state_path"]

_FILE = "ingestion.sqlite"
_RUNS_KEPT = 1000


def default_state_path(location: str, cache_dir: Path | None, state: Path | None) -> Path:
    """The state file of a store: `state` if it is given, else in the folder of an embedded store.

    For a server and for `:memory:` it is in the user's cache folder, or in `cache_dir`.
    """
    if state is not None:
        return state
    if is_folder(location):
        return Path(location) / _FILE
    if cache_dir is None:
        from clip_qdrant.user_folders import default_cache_dir

        cache_dir = default_cache_dir()
    return cache_dir / _FILE


def context_of(limits: Limits, *more: str) -> str:
    """A short hash of what decides, beside its bytes, whether an object can be used: limits and versions of decoders.

    So a decoder that is installed later has what was put away looked at again. `more` is what else does, such as the
    types of metadata fields.
    """
    from clip_qdrant import __version__
    from clip_qdrant.images.formats.open import describe_decoders

    said = json.dumps([__version__, *describe_decoders(), *astuple(limits), *more])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


class IngestState(StateReader):
    """The state file at `path`, made at its first use. Several processes and threads may use it at once.

    Everything raises StateError if the file cannot be read or written.
    """

    def __enter__(self) -> IngestState:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put_away(self, scope: Scope, context: str) -> PutAway:
        """What is put away in a scope, under the limits that `context` stands for."""
        return PutAway(self._file, scope, context)

    def start(self, scope: Scope, options: Mapping[str, Any]) -> int:
        """Notes that a run starts in this process; its number. `options`, without secrets, are for people to read.

        The last 1000 runs are kept.
        """
        with self._file.writing() as connection:
            enter_scope(connection, scope)
            run = connection.execute(
                "INSERT INTO runs (scope, pid, host, started_at, options) VALUES (?, ?, ?, ?, ?)",
                (scope.id, os.getpid(), socket.gethostname(), time.time(), json.dumps(dict(options), default=str)),
            ).lastrowid
            assert run is not None
            connection.execute("DELETE FROM runs WHERE number <= ?", (run - _RUNS_KEPT,))
        return run

    def finish(self, number: int, report: Report) -> None:
        """Notes the report of a run. What it quarantined is in `failures`; here only how much."""
        self._end(number, report.outcome, report.refused, json.dumps(report.summary()))

    def fail(self, number: int, detail: str) -> None:
        """Notes that a run ended by an error."""
        self._end(number, "failed", detail, None)

    def _end(self, run: int, outcome: str, detail: str | None, report: str | None) -> None:
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE runs SET finished_at = ?, outcome = ?, detail = ?, report = ? WHERE number = ?",
                (time.time(), outcome, detail and to_sql_text(detail), report, run),
            )
