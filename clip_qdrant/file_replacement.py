"""Files that are replaced whole: whoever reads one sees the old file or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clip_qdrant.errors import DiskFull

__all__ = ["open_replacement", "raise_if_full"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def open_replacement(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` to write to, which takes its place at the end of the block; at an error it is removed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def raise_if_full(error: BaseException, path: Path) -> None:
    """Raises DiskFull if an error of writing there, or one that it came from, says that no room is left."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _FULL:
            free = shutil.disk_usage(next(each for each in (path, *path.parents) if each.exists())).free
            raise DiskFull(
                f"the disk is full: {path} cannot be written, {free / 1e6:,.0f} MB are free there; make room, or "
                "choose a folder on another disk"
            ) from error
        cause = cause.__cause__ or cause.__context__
