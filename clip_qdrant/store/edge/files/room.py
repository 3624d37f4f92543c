"""Room on the disk of an embedded store, looked for before the engine writes.

The engine writes into files that it maps into memory and that have holes. Where the disk has no block left for a hole,
the system ends the process with SIGBUS, and nothing can be said any more.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from clip_qdrant.errors import StoreFull

__all__ = ["NO_ROOM", "check_room", "check_room_for_copy", "check_room_to_open"]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # what the system says of a full disk

# Kept free for what a write brings with it: a payload index takes 2 MiB, a flush some 400 bytes for each changed point.
_RESERVE = 32 << 20  # bytes
# Where so much is free no write is too large, and its size need not be computed.
_PLENTY = 1 << 30  # bytes
# A point takes twice the size of its vector and its payload as JSON, with the log and fifteen indexes: measured.
_GROWTH = 4
# Of the bytes of a shard: a copy of it and, beside that, what the engine makes of it.
_COPIES = 2.5
# In memory a read makes a block of a hole, and the engine reads these files ahead when it opens.
_READ_AHEAD = (
    "vector_storage*/*vectors",
    "vector_storage*/offsets",
    "vector_storage*/quantized*",
    "vector_storage*/deleted",
    "payload_index",
)
_FILE_SYSTEMS_IN_MEMORY = ("tmpfs", "ramfs")


def check_room(store: Path, doing: str, size: Callable[[], int] = lambda: 0) -> None:
    """Raises StoreFull if the disk cannot take a write of `size()` bytes. Nothing is written before."""
    free = shutil.disk_usage(store).free
    if free >= _PLENTY:
        return
    needed = _RESERVE + _GROWTH * size()
    if free < needed:
        raise StoreFull(
            f"cannot {doing}: the disk of {store} has {_mib(free)} free, and {_mib(needed)} are needed, "
            f"{_mib(_RESERVE)} of which stay free; make room and run it again, all is as it was"
        )


def check_room_for_copy(shard: Path, size: int, doing: str) -> None:
    """Raises StoreFull if the disk has no room for a copy of a shard of `size` bytes and what is made of the copy."""
    free, needed = shutil.disk_usage(shard).free, _RESERVE + int(_COPIES * size)
    if free < needed:
        raise StoreFull(
            f"cannot {doing}: the disk of {shard} has {_mib(free)} free, and {_mib(needed)} are needed for a copy that "
            "takes its place; make room and run it again, all is as it was"
        )


def check_room_to_open(store: Path, shard: Path) -> None:
    """Raises StoreFull if opening a shard would fill a file system that lies in memory."""
    free = shutil.disk_usage(store).free
    if free >= _PLENTY or _file_system(store) not in _FILE_SYSTEMS_IN_MEMORY:
        return
    folders = [shard.glob(f"segments/*/{name}/**/*") for name in _READ_AHEAD]
    needed = _RESERVE // 2 + sum(_hole(path) for folder in folders for path in folder)
    if free < needed:
        raise StoreFull(
            f"cannot open {shard}: {store} lies in memory and has {_mib(free)} free, and {_mib(needed)} are needed; "
            "make room there, all is as it was"
        )


def _hole(path: Path) -> int:
    """Bytes of a file that no block is kept for yet."""
    found = path.stat()
    return max(0, found.st_size - 512 * found.st_blocks) if stat.S_ISREG(found.st_mode) else 0


def _file_system(path: Path) -> str:
    """The kind of file system that a path is on, "" where the system does not tell."""
    if sys.platform != "linux":
        return ""
    device = path.stat().st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    parts = (line.partition(" - ") for line in lines)
    return next((after.split()[0] for before, _, after in parts if before.split()[2] == numbers), "")


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"
