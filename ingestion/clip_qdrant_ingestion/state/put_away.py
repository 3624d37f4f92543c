"""StateMemory: the state file as one run over one source sees it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from clip_qdrant_ingestion.run.report import Duplicate, Quarantined
from clip_qdrant_ingestion.sources.protocol import SourceObject
from clip_qdrant_ingestion.state.state import IngestState, Scope

__all__ = ["StateMemory"]


class StateMemory:
    """What is put away in a scope. `context` says under which limits it is so."""

    def __init__(self, state: IngestState, scope: Scope, context: str) -> None:
        self._state, self._scope, self._context = state, scope, context
        self._began = time.time()

    def known(self, objects: Sequence[SourceObject]) -> Mapping[str, Quarantined | Duplicate]:
        """What was put away before, and has not changed since."""
        return self._state.known(self._scope, self._context, objects)

    def still(self, uris: Sequence[str]) -> None:
        """These are put away still."""
        self._state.seen(self._scope, uris)

    def put_away(self, rows: Sequence[Quarantined | Duplicate]) -> None:
        """Remembers these."""
        self._state.quarantine(self._scope, self._context, [row for row in rows if isinstance(row, Quarantined)])
        self._state.duplicates(self._scope, self._context, [row for row in rows if isinstance(row, Duplicate)])

    def settle(self, uris: Sequence[str]) -> None:
        """Forgets these, which are stored or gone."""
        self._state.settle(self._scope, uris)

    def release(self, uris: Sequence[str]) -> None:
        """Forgets what was left out because of these, which are another picture now, or gone."""
        self._state.release(self._scope, uris)

    def whole(self) -> None:
        """The whole source was listed: what was neither put away nor seen in this run is gone from it."""
        self._state.settle_unseen(self._scope, self._began)
