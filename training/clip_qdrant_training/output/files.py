"""Files of a run that others read while it writes them."""

from __future__ import annotations

from pathlib import Path

from clip_qdrant.errors import TrainingError
from clip_qdrant.file_replacement import open_replacement

__all__ = ["replace_file", "write_picture"]


def replace_file(path: Path, content: bytes) -> None:
    """Replaces the whole file: a viewer never sees half of one. Raises OSError."""
    with open_replacement(path) as file:
        file.write(content)


def write_picture(path: Path, content: bytes, *, what: str = "") -> None:
    """`replace_file` in a folder that is made if it is not there. Raises TrainingError, which calls the file `what`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise TrainingError(f"cannot write {f'{what} to ' if what else ''}{path}: {error.strerror or error}") from error
