"""PutAway: objects that cannot be used, and near-duplicates that were left out, as the state file has them."""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from clip_qdrant_ingestion.run.report import Duplicate, Quarantined
from clip_qdrant_ingestion.state.database import StateFile
from clip_qdrant_ingestion.versions import is_same_version

if TYPE_CHECKING:
    from clip_qdrant_ingestion.sources.protocol import SourceObject
    from clip_qdrant_ingestion.state.reader import Scope

__all__ = ["PutAway", "enter_scope", "to_sql_text"]

_URIS_A_QUERY = 900  # SQLite before 3.32 takes 999 values
_UPSERT = """
    INSERT INTO objects (scope, context, uri, reason, detail, permanent, first, etag, size, mtime,
                         first_seen, last_seen, attempts)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)
    ON CONFLICT (scope, uri) DO UPDATE SET
        context = excluded.context, reason = excluded.reason, detail = excluded.detail,
        permanent = excluded.permanent, first = excluded.first, etag = excluded.etag, size = excluded.size,
        mtime = excluded.mtime, last_seen = excluded.last_seen, attempts = attempts + 1"""


class PutAway:
    """What the runs from one source into one collection (`scope`) put away. Everything raises StateError.

    What was put away in another `context`, under other limits, may be used in this one.
    """

    def __init__(self, file: StateFile, scope: Scope, context: str) -> None:
        self._file, self._scope, self._context = file, scope, context
        self._began = time.time()

    def known(self, objects: Sequence[SourceObject]) -> dict[str, Quarantined | Duplicate]:
        """Those of `objects` that were put away for good in this context and have not changed since, by uri."""
        items = {to_sql_text(item.uri): item for item in objects}
        found: dict[str, Quarantined | Duplicate] = {}
        for uris in _chunks(items):
            with self._file.reading() as connection:
                rows = connection.execute(
                    "SELECT uri, reason, detail, first, etag, size, mtime FROM objects "  # noqa: S608  only marks
                    f"WHERE scope = ? AND context = ? AND permanent AND uri IN ({_marks(uris)})",
                    (self._scope.id, self._context, *uris),
                ).fetchall()
            for uri, reason, detail, first, etag, size, mtime in rows:
                item, version = items[uri], {"etag": etag, "size": size, "mtime": mtime}
                if not is_same_version(item, version):
                    continue
                if first is None:
                    found[item.uri] = Quarantined(item.uri, reason, detail, True, **version)
                else:
                    found[item.uri] = Duplicate(item.uri, first, **version)
        return found

    def put(self, rows: Sequence[Quarantined | Duplicate]) -> None:
        """Puts objects away; one that is there already has been tried once more."""
        if not rows:
            return
        now = time.time()
        values = [(self._scope.id, self._context, *map(_to_sql, _columns(row)), now, now) for row in rows]
        with self._file.writing() as connection:
            enter_scope(connection, self._scope)
            connection.executemany(_UPSERT, values)

    def keep(self, uris: Iterable[str]) -> None:
        """These objects were met again, and are put away still."""
        now = time.time()
        for chunk in _chunks(map(to_sql_text, uris)):
            with self._file.writing() as connection:
                connection.execute(
                    f"UPDATE objects SET last_seen = ? WHERE scope = ? AND uri IN ({_marks(chunk)})",  # noqa: S608
                    (now, self._scope.id, *chunk),
                )

    def settle(self, uris: Iterable[str]) -> None:
        """These objects are stored or gone now: takes them out. Only reads if none of them is put away."""
        self._remove("uri", uris)

    def release(self, firsts: Iterable[str]) -> None:
        """These images have changed or are gone: takes out what was left out because of them, to be looked at again."""
        self._remove("first", firsts)

    def settle_unmet(self) -> None:
        """Takes out what was neither put away nor kept since this object was made: it is gone.

        For the end of a run that listed all of its source.
        """
        with self._file.writing() as connection:
            connection.execute(
                "DELETE FROM objects WHERE scope = ? AND last_seen < ?",
                (self._scope.id, self._began),
            )

    def _remove(self, column: str, uris: Iterable[str]) -> None:
        for chunk in _chunks(map(to_sql_text, uris)):
            there = f"FROM objects WHERE scope = ? AND {column} IN ({_marks(chunk)})"
            with self._file.reading() as connection:  # readers do not wait for the writers of other processes
                found = connection.execute(f"SELECT 1 {there} LIMIT 1", (self._scope.id, *chunk)).fetchone()
            if found is not None:
                with self._file.writing() as connection:
                    connection.execute(f"DELETE {there}", (self._scope.id, *chunk))


def enter_scope(connection: sqlite3.Connection, scope: Scope) -> None:
    """Writes down the names of a scope, if they are not there yet."""
    connection.execute(
        "INSERT OR IGNORE INTO scopes VALUES (?, ?, ?, ?)",
        (scope.id, to_sql_text(scope.location), to_sql_text(scope.collection), to_sql_text(scope.source)),
    )


def to_sql_text(value: str) -> str:
    """A text that SQLite takes: lone surrogates, of file names that are no UTF-8, as backslashes."""
    return value.encode("utf-8", "backslashreplace").decode()


def _to_sql(value: object) -> object:
    return to_sql_text(value) if isinstance(value, str) else value


def _columns(row: Quarantined | Duplicate) -> tuple[object, ...]:
    """uri, reason, detail, permanent, first, etag, size, mtime"""
    if isinstance(row, Duplicate):
        return row.uri, "duplicate", "", True, row.first, row.etag, row.size, row.mtime
    return row.uri, row.reason, row.detail, row.permanent, None, row.etag, row.size, row.mtime


def _chunks(uris: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(uris)
    while chunk := list(itertools.islice(rest, _URIS_A_QUERY)):
        yield chunk


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
