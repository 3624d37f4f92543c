"""Copies the files of a shard as they are, holes included: a shard of 1.7 GB on disk has files of 3.6 GB."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["copy_files", "count_bytes_on_disk"]

_PIECE = 8 << 20  # bytes; between pieces other threads go on
_REFLINK = 0x40049409  # FICLONE of linux/fs.h: both files share their blocks until one of them changes


def count_bytes_on_disk(folder: Path) -> int:
    """What the files of a folder take on the disk."""
    return sum(_bytes_on_disk(path.stat()) for path in folder.rglob("*") if path.is_file())


def _bytes_on_disk(found: os.stat_result) -> int:
    blocks = getattr(found, "st_blocks", None)  # Windows does not tell
    return found.st_size if blocks is None else min(512 * blocks, found.st_size)


def copy_files(source: Path, target: Path) -> Iterator[int]:
    """Copies a folder to one that is not there yet, as it is iterated. Gives bytes on the disk, file by file."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
        else:
            _copy_file(path, place)
            yield _bytes_on_disk(path.stat())


def _copy_file(source: Path, target: Path) -> None:
    if not hasattr(os, "SEEK_DATA"):
        shutil.copyfile(source, target)
        return
    with source.open("rb") as read, target.open("wb") as write:
        if _share_blocks(read.fileno(), write.fileno()):
            return
        size = os.fstat(read.fileno()).st_size
        os.truncate(write.fileno(), size)
        end = 0
        while end < size:
            try:
                start = os.lseek(read.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    return
                raise
            end = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            read.seek(start)
            write.seek(start)
            while (left := end - read.tell()) > 0 and (piece := read.read(min(left, _PIECE))):
                write.write(piece)


def _share_blocks(read: int, write: int) -> bool:
    """Whether the file system has made the copy by itself, at once."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(write, _REFLINK, read)
    except OSError:  # few file systems can: btrfs, xfs
        return False
    return True
