"""Files that are replaced whole: a viewer sees no half one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from clip_qdrant.errors import TrainingError

__all__ = ["replace_file", "write_picture"]


def replace_file(path: Path, content: bytes) -> None:
    """Write to a neighbour, fsync, rename: the file is the old one or the new one, never half of either."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def write_picture(path: Path, content: bytes, *, what: str = "") -> None:
    """`replace_file` in a folder that is made if it is not there. Raises TrainingError, which calls the file `what`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise TrainingError(f"cannot write {f'{what} to ' if what else ''}{path}: {error.strerror or error}") from error
