"""Reading the state file of ingestion: the last runs, what is in quarantine, and what was left out."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clip_qdrant.url_secrets import mask_secrets
from clip_qdrant_ingestion.state.database import StateFile

__all__ = ["LeftOutRecord", "QuarantineRecord", "ReasonCount", "RunRecord", "Scope", "StateReader", "is_folder"]


def is_folder(location: str) -> bool:
    """Whether the location of a store is the folder of an embedded one."""
    return location != ":memory:" and "://" not in location


@dataclass(frozen=True, slots=True)
class Scope:
    """Which runs belong together: those from one source into one collection of one store.

    Make it with `Scope.of`, which gives a folder its absolute path and a URL no password.
    """

    location: str
    collection: str
    source: str

    @classmethod
    def of(cls, location: str, collection: str, source: str) -> Scope:
        place = str(Path(location).absolute()) if is_folder(location) else mask_secrets(location)
        return cls(place, collection, source)

    @property
    def id(self) -> int:
        """64 bits that stand for the scope in the tables."""
        said = json.dumps([self.location, self.collection, self.source]).encode()
        return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. `outcome` is done, interrupted, refused (nothing deleted, see `detail`), failed or unfinished.

    An unfinished one is still running, or was killed. `report` has what `Report.document` says, with the number of
    quarantined objects by reason in `reasons`; None for runs that failed or did not finish.
    """

    scope: Scope
    number: int
    outcome: str
    detail: str | None
    started_at: datetime
    finished_at: datetime | None
    pid: int
    host: str
    options: Mapping[str, Any]
    report: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """One object in quarantine: since when, when last met, and how often it was tried."""

    scope: Scope
    uri: str
    reason: str
    detail: str
    permanent: bool
    first_seen: datetime
    last_seen: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class LeftOutRecord:
    """One image that was left out because it nearly equals the one at `first`."""

    scope: Scope
    uri: str
    first: str
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many objects are in quarantine for one reason."""

    reason: str
    count: int


class StateReader:
    """The state file at `path`. Everything raises StateError if it cannot be read.

    What is asked for is that of all scopes, of one `scope`, or of those whose source has `source` in its name.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = StateFile(self.path)

    def close(self) -> None:
        self._file.close()

    def runs(self, limit: int = 20, *, scope: Scope | None = None, source: str | None = None) -> list[RunRecord]:
        """The last runs, the latest first."""
        rows = self._select(
            "number, outcome, detail, started_at, finished_at, pid, host, options, report",
            _Choice("runs", scope, source),
            "number DESC",
            limit,
        )
        return [
            RunRecord(
                scope=scope,
                number=number,
                outcome=outcome or "unfinished",
                detail=detail if outcome else f"killed, or still running as process {pid} on {host}",
                started_at=_moment(started_at),
                finished_at=None if finished_at is None else _moment(finished_at),
                pid=pid,
                host=host,
                options=json.loads(options),
                report=None if report is None else json.loads(report),
            )
            for scope, (number, outcome, detail, started_at, finished_at, pid, host, options, report) in rows
        ]

    def quarantined(
        self,
        scope: Scope | None = None,
        reason: str | None = None,
        *,
        source: str | None = None,
        limit: int | None = None,
    ) -> list[QuarantineRecord]:
        """What is in quarantine, all or for one reason, the latest first."""
        rows = self._select(
            "uri, reason, detail, permanent, first_seen, last_seen, attempts",
            _Choice("objects", scope, source, reason, duplicates=False),
            "last_seen DESC, uri",
            limit,
        )
        return [
            QuarantineRecord(
                scope, uri, reason, detail, bool(permanent), _moment(first_seen), _moment(last_seen), attempts
            )
            for scope, (uri, reason, detail, permanent, first_seen, last_seen, attempts) in rows
        ]

    def left_out(
        self, scope: Scope | None = None, *, source: str | None = None, limit: int | None = None
    ) -> list[LeftOutRecord]:
        """The near-duplicates that were left out, the latest first."""
        rows = self._select(
            "uri, first, first_seen, last_seen",
            _Choice("objects", scope, source, duplicates=True),
            "last_seen DESC, uri",
            limit,
        )
        return [
            LeftOutRecord(scope, uri, first, _moment(first_seen), _moment(last_seen))
            for scope, (uri, first, first_seen, last_seen) in rows
        ]

    def counts_by_reason(self, scope: Scope | None = None, *, source: str | None = None) -> list[ReasonCount]:
        """How many objects are in quarantine for which reason, the most frequent first."""
        clause, values = _Choice("objects", scope, source, duplicates=False).sql()
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT reason, count(*) {clause} GROUP BY reason ORDER BY 2 DESC, 1",
                values,
            ).fetchall()
        return [ReasonCount(reason, count) for reason, count in rows]

    def _select(
        self, columns: str, choice: _Choice, order: str, limit: int | None
    ) -> list[tuple[Scope, Sequence[Any]]]:
        clause, values = choice.sql()
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT location, collection, source, {columns} {clause} ORDER BY {order} LIMIT ?",
                (*values, -1 if limit is None else limit),
            ).fetchall()
        return [(Scope(*row[:3]), row[3:]) for row in rows]


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which rows of a table are asked for."""

    table: str
    scope: Scope | None
    source: str | None
    reason: str | None = None
    duplicates: bool | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """From FROM to WHERE, and the values for its marks."""
        conditions: dict[str, list[Any]] = {"scope = id": []}
        if self.scope is not None:
            conditions["id = ?"] = [self.scope.id]
        if self.source is not None:
            conditions["instr(source, ?)"] = [self.source]
        if self.reason is not None:
            conditions["reason = ?"] = [self.reason]
        if self.duplicates is not None:
            conditions["first IS NOT NULL" if self.duplicates else "first IS NULL"] = []
        return f"FROM {self.table}, scopes WHERE {' AND '.join(conditions)}", [*itertools.chain(*conditions.values())]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
