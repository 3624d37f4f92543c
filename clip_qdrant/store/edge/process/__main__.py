"""The process of a store: python -m clip_qdrant.store.edge.process STORE LOG. Users start it (`start.py`).

What it says on stderr goes to LOG, which is removed at the end if nothing was said. Signals that ask programs to end
are not for it: those who use the store get them too, and may need it to finish what they have in hand. It ends with the
last of them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import sys
import time
from pathlib import Path

from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.lock import FileLock, is_held
from clip_qdrant.store.edge.process.address import make_folder
from clip_qdrant.store.edge.process.server import StoreServer

__all__ = ["main"]

_SECONDS_FOR_THE_FIRST = 60.0
_PATIENCE = 60.0  # seconds for the one before to end
_PAUSE = 0.005  # seconds


def main() -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _pass_over)
    faulthandler.enable()
    root, log = map(Path, sys.argv[1:])
    lock = _wait_for_lock(root)
    if lock is not None:
        for left in log.parent.glob("*.log"):  # of processes that were killed
            if left.name != log.name:
                _remove_if_empty(left)
        try:
            server = StoreServer(EdgeClient(root), root, is_process=True)
            server.wait_until_unused(_SECONDS_FOR_THE_FIRST)
            server.close()
        finally:
            lock.release()
    _remove_if_empty(log)


def _remove_if_empty(log: Path) -> None:
    with contextlib.suppress(OSError):
        if log.stat().st_size == 0:
            log.unlink()


def _pass_over(*_: object) -> None:
    """In place of SIG_IGN, which a process would inherit that is started here, to optimize a collection."""


def _wait_for_lock(root: Path) -> FileLock | None:
    """None if another process answers for the store, and goes on."""
    path, give_up = make_folder(root) / "lock", time.monotonic() + _PATIENCE
    while True:
        try:
            return FileLock(path, wait=False)
        except OSError as error:
            if not is_held(error):
                raise
            if time.monotonic() > give_up:
                return None
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
