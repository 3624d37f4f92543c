"""The SQLite file behind `IngestState`: made at its first use, read and written by several processes and threads.

It is in WAL mode: readers never wait, writers take turns, and what a killed process had not committed is gone. A
commit is not flushed to the disk at once, so a power cut may cost the last ones, never the file. One connection serves
all threads of a process, under a lock.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from clip_qdrant.errors import StateError

__all__ = ["StateFile"]

_PATIENCE = 30.0  # seconds to wait for the other writers
_APPLICATION = 0x636C6970  # "clip", in the header of the file
_VERSION = 1
_SCHEMA = (
    """CREATE TABLE scopes (
        id INTEGER PRIMARY KEY, location TEXT NOT NULL, collection TEXT NOT NULL, source TEXT NOT NULL
    )""",
    """CREATE TABLE objects (
        scope INTEGER NOT NULL, uri TEXT NOT NULL, context TEXT NOT NULL,
        reason TEXT NOT NULL, detail TEXT NOT NULL, permanent INTEGER NOT NULL, first TEXT,
        etag TEXT, size INTEGER, mtime REAL,
        first_seen REAL NOT NULL, last_seen REAL NOT NULL, attempts INTEGER NOT NULL,
        PRIMARY KEY (scope, uri)
    ) WITHOUT ROWID""",
    "CREATE INDEX objects_by_first ON objects (scope, first) WHERE first IS NOT NULL",
    """CREATE TABLE runs (
        number INTEGER PRIMARY KEY, scope INTEGER NOT NULL, pid INTEGER NOT NULL, host TEXT NOT NULL,
        started_at REAL NOT NULL, finished_at REAL, outcome TEXT, detail TEXT,
        options TEXT NOT NULL, report TEXT
    )""",
)
# What SQLite says, in part, and what to do about it.
_ADVICE = (
    ("locked", f"another program has held it for {_PATIENCE:.0f} s; end that one, or name another file (--state)"),
    ("full", "make room on its disk"),
    ("disk I/O", "look whether its disk is full or failing"),
    ("not a database", "it is no state file; name another one (--state)"),
    ("malformed", "it is damaged; delete it: only the list of quarantined objects and past reports are lost"),
    ("open", "look whether its folder may be written, or name another file (--state)"),
    ("readonly", "look whether it and its folder may be written, or name another file (--state)"),
    ("closed", "open it again"),
)


class StateFile:
    """A connection to the file at `path`. Raises StateError for whatever keeps it from being used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"cannot make the folder of the state file {path}: {error.strerror or error}; "
                "name another file (--state)"
            ) from error
        with self._errors("open"):
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        with self._lock, self._errors("close"):
            self._connection.close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone until the block ends."""
        with self._lock, self._errors("read"):
            yield self._connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The same, in a transaction: all of the block is written, or nothing if it raises."""
        with self._lock, self._errors("write"), self._transaction():
            yield self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")  # a later upgrade from reading could not wait for its turn
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
                self._connection.execute("ROLLBACK")
            raise

    def _prepare(self) -> None:
        if not self._is_current():
            with self._transaction():
                if not self._is_current():  # another process may have been quicker
                    for statement in _SCHEMA:
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                    self._connection.execute(f"PRAGMA user_version = {_VERSION}")
        self._use_wal()
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _is_current(self) -> bool:
        """Whether the tables are there; False for an empty file."""
        # The tables first: whoever made them has, in the same transaction, written the other two.
        tables, application, version = (
            self._connection.execute(query).fetchone()[0]
            for query in ("SELECT count(*) FROM sqlite_master", "PRAGMA application_id", "PRAGMA user_version")
        )
        if tables and application != _APPLICATION:
            raise StateError(
                f"{self.path} is the SQLite database of another program, no state file; name another one (--state)"
            )
        if version > _VERSION:
            raise StateError(
                f"the state file {self.path} has version {version}, this clip-qdrant reads {_VERSION}; "
                "upgrade clip-qdrant, or name another file (--state)"
            )
        return bool(tables)

    def _use_wal(self) -> None:
        """SQLite does not wait for others here as elsewhere: of two that open a new file, one may be refused."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(0.02)

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            advice = next((advice for words, advice in _ADVICE if words in str(error)), "name another file (--state)")
            raise StateError(f"cannot {what} the state file {self.path}: {error}; {advice}") from error
