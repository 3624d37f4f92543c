"""Changes of a local folder as the file system tells them (inotify, FSEvents, ReadDirectoryChangesW), by watchfiles.

What other machines write to a network drive is not told, and of very many changes at once some may not be: set an
interval too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clip_qdrant.errors import MissingExtra, SourceError
from clip_qdrant.uris import to_uri
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.sources.leftovers import is_leftover
from clip_qdrant_ingestion.worker.events.change_queue import ChangeQueue
from clip_qdrant_ingestion.worker.events.messages import Change

if TYPE_CHECKING:
    from watchfiles.main import FileChange

__all__ = ["file_events"]

logger = logging.getLogger(__name__)

_STEP = 200  # ms between looks at whether to stop
_PAUSE = 0.5  # seconds before a watch that broke off begins anew


@contextlib.contextmanager
def file_events(
    folder: str | os.PathLike[str],
    queue: ChangeQueue,
    *,
    suffixes: Collection[str],
    ignored: Collection[str | os.PathLike[str]] = (),
    hidden: bool = False,
) -> Iterator[None]:
    """While it lasts, changes below `folder` go to the queue, from a thread; every one from its beginning on.

    Only files of these `suffixes` (lower case, with the dot) count. `ignored` are files and folders that the worker
    itself writes: a store within the folder would have it run for ever. Hidden files count only if `hidden` is set.
    A folder that vanished makes the next run a whole one.

    Raises MissingExtra, and SourceError if the folder cannot be watched.
    """
    try:
        import watchfiles  # noqa: F401
    except ImportError as error:
        raise MissingExtra("watchfiles", "worker", "watching a folder") from error
    watched = _Watched(Path(os.path.abspath(folder)), suffixes, ignored, hidden)  # noqa: PTH100  as in FolderSource
    stop = threading.Event()
    changes = watched.changes(queue, stop)
    watched.tell(next(changes), queue)  # from here on nothing is missed
    thread = threading.Thread(target=_hand_over, args=(changes, watched, queue), name="file events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _hand_over(changes: Iterator[set[FileChange]], watched: _Watched, queue: ChangeQueue) -> None:
    try:
        for batch in changes:
            watched.tell(batch, queue)
    except Exception as error:  # noqa: BLE001  nobody sees a thread fail; the queue raises it in the main loop
        queue.fail(error)


class _Watched:
    def __init__(
        self, folder: Path, suffixes: Collection[str], ignored: Collection[str | os.PathLike[str]], hidden: bool
    ) -> None:
        self.folder = folder
        self._folders = TextSet()  # by which a folder that is gone is told from a file
        self._real = folder.resolve()  # FSEvents tells of real paths, the uris of a source keep their links
        self._suffixes = frozenset(suffixes)
        self._ignored = [Path(path).resolve() for path in ignored]
        self._hidden = hidden

    def changes(self, queue: ChangeQueue, stop: threading.Event) -> Iterator[set[FileChange]]:
        """Batches of changes, after a first one that says that the watch is on. Raises SourceError.

        A watch that breaks off begins anew, and as nobody knows what it missed, everything is to be looked at.
        """
        broke = False
        while not stop.is_set():
            try:
                changes = self._watch(stop)
                first = next(changes, set())
                self._learn(self._real)
                if broke:
                    queue.put_everything()
                    broke = False
                yield first
                yield from changes
            except RuntimeError as error:  # of a name that is no UTF-8 it does not say where
                logger.warning("watching %s begins anew, and everything is looked at: %s", self.folder, error)
                if broke:
                    queue.put_everything()  # it may go on like that for long
                broke = True
                stop.wait(_PAUSE)

    def _watch(self, stop: threading.Event) -> Iterator[set[FileChange]]:
        import watchfiles

        try:
            yield from watchfiles.watch(
                self._real,
                watch_filter=lambda _, path: self._is_seen(Path(path)),
                stop_event=stop,
                debounce=500,  # ms; the queue waits for what belongs together
                rust_timeout=_STEP,
                yield_on_timeout=True,
                raise_interrupt=False,
                # One folder within that may not be read is enough for nothing to be watched; better to be told so.
                ignore_permission_denied=False,
            )
        except OSError as error:
            raise SourceError(
                f"cannot watch {self.folder}: {error}; watch a folder that is readable with all below it, "
                "have the kernel allow more (fs.inotify.max_user_watches), or set an interval instead"
            ) from error

    def tell(self, batch: set[FileChange], queue: ChangeQueue) -> None:
        from watchfiles import Change as Kind

        for kind, name in sorted(batch):
            path = self.folder / Path(name).relative_to(self._real)
            if kind == Kind.deleted and (not path.suffix or name in self._folders) and not os.path.lexists(path):
                queue.put_everything()  # a folder, or perhaps one, with all that was in it
            elif path.suffix.lower() in self._suffixes and not path.is_dir():
                # A file that is replaced is told as removed and added, in no order: what is there now counts.
                queue.put([Change(to_uri(path), removed=not os.path.lexists(path))])
            elif kind == Kind.added and path.is_dir():
                self._folders.add(name)
                self._learn(Path(name))
                # What was in it before it could be watched nobody tells.
                queue.put(Change(to_uri(file)) for file in self._files(path))

    def _learn(self, folder: Path) -> None:
        """Remembers the folders below a folder."""
        waiting = [os.fspath(folder)]
        while waiting:
            with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:  # one that is gone will be told
                for entry in entries:
                    if entry.is_dir() and self._is_seen(Path(entry.path)):
                        self._folders.add(entry.path)
                        if not entry.is_symlink():
                            waiting.append(entry.path)

    def _files(self, folder: Path) -> Iterator[Path]:
        for parent, folders, files in os.walk(folder):
            inner = self._real / Path(parent).relative_to(self.folder)
            folders[:] = [name for name in folders if self._is_seen(inner / name)]
            for name in files:
                path = Path(parent, name)
                if path.suffix.lower() in self._suffixes and self._is_seen(inner / name):
                    yield path

    def _is_seen(self, path: Path) -> bool:
        if any(path == one or one in path.parents for one in self._ignored):
            return False
        inner = path.relative_to(self._real)
        return self._hidden or not any(part.startswith(".") or is_leftover(part) for part in inner.parts)
