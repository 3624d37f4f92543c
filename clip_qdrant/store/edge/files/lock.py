"""A lock on a file, by which processes and the clients within one keep away from each other's work.

The package filelock is not used here, because of forks. It closes its file in a forked child, so that a parent which
closes lets others in, while the engine's own files are still held by the child: an open that the engine then refuses
damages the shard. A plain file descriptor is inherited as the engine's are, and keeps others out as long.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["FileLock", "is_held"]


class FileLock:
    """An exclusive lock on a file, held from the moment it is made. The system drops it when the process dies.

    `wait` says whether to wait for whoever has it; without, OSError is raised, of which `is_held` tells the reason.
    """

    def __init__(self, path: Path, *, wait: bool) -> None:
        self._path = path
        self._fd: int | None = None  # for __del__, which also runs if the next line fails
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(self._fd, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            self.release()
            raise

    def is_in_place(self) -> bool:
        """Whether the file is still the one at its path; whoever made another there may have locked that."""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def fileno(self) -> int:
        """The descriptor by which it is held; a process that inherits it holds the lock too."""
        assert self._fd is not None
        return self._fd

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    __del__ = release

    def unlock(self) -> None:
        """Lets go of it in forked children too, for work of a moment. After `release` a child that was forked
        meanwhile, by another thread, has it as long as it lives."""
        if self._fd is not None and sys.platform != "win32":
            import fcntl

            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self.release()


def is_held(error: OSError) -> bool:
    """Whether a lock was refused because somebody has it."""
    return isinstance(error, BlockingIOError) or (sys.platform == "win32" and isinstance(error, PermissionError))
