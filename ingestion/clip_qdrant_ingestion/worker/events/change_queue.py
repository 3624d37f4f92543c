"""Changes on their way to the next run: gathered from many threads, and given out when they have come to rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from clip_qdrant.errors import ConfigError
from clip_qdrant_ingestion.run.extent import Extent
from clip_qdrant_ingestion.worker.events.messages import Change

__all__ = ["ChangeQueue"]

_MOST = 100_000  # folders and removed objects kept by name
_LARGEST = 16 << 20  # characters of these names
_TABLES = ("metadata.csv", "metadata.jsonl")  # they speak of the folders below theirs too


class ChangeQueue:
    """Changes that wait. `folder_of` gives the folder of a uri within the source, None for what is not of this source.

    They are ready when for `debounce` seconds none was added, or the first of them has waited `max_wait` seconds.
    A table of metadata makes the next run a whole one, and so do more changes than are kept by name, 100,000 or
    16 Mi characters.
    """

    def __init__(
        self,
        folder_of: Callable[[str], str | None],
        *,
        debounce: float = 2.0,
        max_wait: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= debounce <= max_wait:
            raise ConfigError(f"debounce {debounce:g} must be from 0 to max_wait {max_wait:g} seconds")
        self._folder_of, self._debounce, self._max_wait, self._clock = folder_of, debounce, max_wait, clock
        self._lock = threading.Lock()
        self._everything = False
        self._folders: set[str] = set()
        self._removed: set[str] = set()
        self._size = 0  # characters of what came in since changes were given out
        self._ready_at: float | None = None
        self._first = 0.0
        self._failure: BaseException | None = None

    @property
    def waiting(self) -> int:
        """How many folders and removed objects wait; one for a whole run."""
        with self._lock:
            return self._everything + len(self._folders) + len(self._removed)

    def put(self, changes: Iterable[Change]) -> None:
        """Adds changes. The folder of a removed object is looked at too: it may be there again."""
        for change in changes:
            folder = self._folder_of(change.uri)
            if folder is None:
                continue
            with self._lock:
                if change.uri.lower().endswith(_TABLES):
                    self._everything = True
                elif change.removed:
                    self._keep(self._removed, change.uri)
                else:
                    self._removed.discard(change.uri)
                self._keep(self._folders, folder)
                self._bound()
                self._touch()

    def put_everything(self, *, at_once: bool = False) -> None:
        """The next run is to be a whole one."""
        with self._lock:
            self._everything = True
            self._touch()
            if at_once:
                self._ready_at = self._clock()

    def put_back(self, extent: Extent) -> None:
        """Adds what a run that failed was to look at; it has waited long enough."""
        with self._lock:
            self._everything |= extent.folders is None
            for folder in extent.folders or ():
                self._keep(self._folders, folder)
            for uri in extent.removed:
                self._keep(self._removed, uri)
            self._bound()
            self._touch()
            self._ready_at = self._clock()

    def fail(self, error: BaseException) -> None:
        """No more changes can be told from some thread; `take` raises it."""
        self._failure = error

    def take(self) -> Extent | None:
        """What is ready, which is then no longer here; None while nothing is. Raises what `fail` was given."""
        if self._failure is not None:
            raise self._failure
        with self._lock:
            if self._ready_at is None or self._clock() < self._ready_at:
                return None
            folders = None if self._everything else frozenset(self._folders)
            extent = Extent(folders, frozenset(self._removed))
            self._everything, self._folders, self._removed, self._ready_at = False, set(), set(), None
            self._size = 0
            return extent

    def _touch(self) -> None:
        now = self._clock()
        if self._ready_at is None:
            self._first = now
        self._ready_at = min(now + self._debounce, self._first + self._max_wait)

    def _keep(self, names: set[str], name: str) -> None:
        if name not in names:
            names.add(name)
            self._size += len(name)

    def _bound(self) -> None:
        """Beyond the limit a whole run finds by itself what changed and what is gone."""
        if self._everything:
            self._folders.clear()
        if len(self._folders) + len(self._removed) > _MOST or self._size > _LARGEST:
            self._everything = True
            self._folders.clear()
            self._removed.clear()
