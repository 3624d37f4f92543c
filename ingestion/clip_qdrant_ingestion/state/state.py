"""What runs of ingestion put away, and what they reported, in one small SQLite file.

What is ingested is not written here: Qdrant is asked for that. Losing the file costs the reports, and one more look at
each object that was quarantined or left out.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clip_qdrant_ingestion.run.report import Duplicate, Quarantined, Report
from clip_qdrant_ingestion.state.reader import Failure, LeftOut, ReasonCount, Run, Scope, StateReader, is_folder

if TYPE_CHECKING:
    from clip_qdrant.images.load import Limits
    from clip_qdrant_ingestion.sources.protocol import SourceObject

__all__ = ["Failure", "IngestState", "LeftOut", "ReasonCount", "Run", "Scope", "context_of", "default_state_path"]

_FILE = "ingestion.sqlite"
_RUNS_KEPT = 1000
_URIS_A_QUERY = 900  # SQLite before 3.32 takes 999 values
_UPSERT = """
    INSERT INTO objects (scope, context, uri, reason, detail, permanent, first, etag, size, mtime,
                         first_seen, last_seen, attempts)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
    ON CONFLICT (scope, uri) DO UPDATE SET
        context = excluded.context, reason = excluded.reason, detail = excluded.detail,
        permanent = excluded.permanent, first = excluded.first, etag = excluded.etag, size = excluded.size,
        mtime = excluded.mtime, last_seen = excluded.last_seen, attempts = attempts + 1"""


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

    `more` is what else does, such as the types of metadata fields.
    """
    from PIL import __version__ as pillow

    from clip_qdrant import __version__

    said = json.dumps([__version__, pillow, limits.max_bytes, limits.max_pixels, *more])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


class IngestState(StateReader):
    """The state file at `path`, made at its first use. Several processes and threads may use it at once.

    Everything raises StateError if the file cannot be read or written.
    """

    def __enter__(self) -> IngestState:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def known(self, scope: Scope, context: str, objects: Sequence[SourceObject]) -> dict[str, Quarantined | Duplicate]:
        """Those of `objects` that were put away for good in this context and have not changed since, by uri."""
        items = {_text(item.uri): item for item in objects}
        found: dict[str, Quarantined | Duplicate] = {}
        for uris in _chunks(items):
            with self._file.reading() as connection:
                rows = connection.execute(
                    "SELECT uri, reason, detail, first, etag, size, mtime FROM objects "  # noqa: S608  only marks
                    f"WHERE scope = ? AND context = ? AND permanent AND uri IN ({_marks(uris)})",
                    (scope.id, context, *uris),
                ).fetchall()
            for uri, reason, detail, first, *version in rows:
                item = items[uri]
                if not _unchanged(item, *version):
                    continue
                if first is None:
                    found[item.uri] = Quarantined(item.uri, reason, detail, True, *version)
                else:
                    found[item.uri] = Duplicate(item.uri, first, *version)
        return found

    def quarantine(self, scope: Scope, context: str, rows: Sequence[Quarantined]) -> None:
        """Puts away objects that could not be used; one that is there already has been tried once more."""
        self._put(
            scope,
            context,
            [(r.uri, r.reason, r.detail, r.permanent, None, r.etag, r.size, r.mtime) for r in rows],
        )

    def duplicates(self, scope: Scope, context: str, rows: Sequence[Duplicate]) -> None:
        """Puts away images that were left out."""
        self._put(scope, context, [(r.uri, "duplicate", "", True, r.first, r.etag, r.size, r.mtime) for r in rows])

    def settle(self, scope: Scope, uris: Iterable[str]) -> None:
        """These objects are stored or gone now: takes them out. Only reads if none of them is put away."""
        self._remove(scope, "uri", uris)

    def release(self, scope: Scope, firsts: Iterable[str]) -> None:
        """These images have changed or are gone: takes out what was left out because of them, to be looked at again."""
        self._remove(scope, "first", firsts)

    def seen(self, scope: Scope, uris: Iterable[str]) -> None:
        """These objects are still there and still put away."""
        now = time.time()
        for chunk in _chunks(map(_text, uris)):
            with self._file.writing() as connection:
                connection.execute(
                    f"UPDATE objects SET last_seen = ? WHERE scope = ? AND uri IN ({_marks(chunk)})",  # noqa: S608
                    (now, scope.id, *chunk),
                )

    def settle_unseen(self, scope: Scope, since: float) -> None:
        """Takes out what was neither put away nor seen since then (seconds since 1970): it is gone.

        For the end of a run that listed all of its source.
        """
        with self._file.writing() as connection:
            connection.execute("DELETE FROM objects WHERE scope = ? AND last_seen < ?", (scope.id, since))

    def start(self, scope: Scope, options: Mapping[str, Any]) -> int:
        """Notes that a run starts in this process; its number. `options`, without secrets, are for people to read.

        The last 1000 runs are kept.
        """
        with self._file.writing() as connection:
            _enter(connection, scope)
            run = connection.execute(
                "INSERT INTO runs (scope, pid, host, started_at, options) VALUES (?, ?, ?, ?, ?)",
                (scope.id, os.getpid(), socket.gethostname(), time.time(), json.dumps(dict(options), default=str)),
            ).lastrowid
            assert run is not None
            connection.execute("DELETE FROM runs WHERE number <= ?", (run - _RUNS_KEPT,))
        return run

    def finish(self, number: int, report: Report) -> None:
        """Notes the report of a run. What it quarantined is in `failures`; here only how much."""
        reasons = Counter(row.reason for row in report.quarantined)
        document = replace(report, quarantined=()).document()
        document |= {"quarantined": len(report.quarantined), "reasons": dict(reasons.most_common())}
        outcome = "interrupted" if report.interrupted else "refused" if report.refused else "done"
        self._end(number, outcome, report.refused, json.dumps(document))

    def fail(self, number: int, detail: str) -> None:
        """Notes that a run ended by an error."""
        self._end(number, "failed", detail, None)

    def _put(self, scope: Scope, context: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """`rows` are uri, reason, detail, permanent, first, etag, size, mtime."""
        if not rows:
            return
        now = time.time()
        texts = [[_text(value) if isinstance(value, str) else value for value in row] for row in rows]
        with self._file.writing() as connection:
            _enter(connection, scope)
            connection.executemany(_UPSERT, [(scope.id, context, *row, now, now) for row in texts])

    def _remove(self, scope: Scope, column: str, uris: Iterable[str]) -> None:
        for chunk in _chunks(map(_text, uris)):
            there = f"FROM objects WHERE scope = ? AND {column} IN ({_marks(chunk)})"
            with self._file.reading() as connection:  # readers do not wait for the writers of other processes
                found = connection.execute(f"SELECT 1 {there} LIMIT 1", (scope.id, *chunk)).fetchone()
            if found is not None:
                with self._file.writing() as connection:
                    connection.execute(f"DELETE {there}", (scope.id, *chunk))

    def _end(self, run: int, outcome: str, detail: str | None, report: str | None) -> None:
        with self._file.writing() as connection:
            connection.execute(
                "UPDATE runs SET finished_at = ?, outcome = ?, detail = ?, report = ? WHERE number = ?",
                (time.time(), outcome, detail and _text(detail), report, run),
            )


def _enter(connection: sqlite3.Connection, scope: Scope) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO scopes VALUES (?, ?, ?, ?)",
        (scope.id, _text(scope.location), _text(scope.collection), _text(scope.source)),
    )


def _unchanged(item: SourceObject, etag: str | None, size: int | None, mtime: float | None) -> bool:
    from clip_qdrant.fields.values import same_json

    if item.etag is not None and etag is not None:
        return item.etag == etag
    if item.size is None or item.mtime is None:
        return False
    return item.size == size and same_json(float(item.mtime), mtime)


def _text(value: str) -> str:
    """A text that SQLite takes: lone surrogates, of file names that are no UTF-8, as backslashes."""
    return value.encode("utf-8", "backslashreplace").decode()


def _chunks(uris: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(uris)
    while chunk := list(itertools.islice(rest, _URIS_A_QUERY)):
        yield chunk


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
