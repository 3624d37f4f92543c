"""The child process that optimizes a copy of a shard: python -m clip_qdrant.store.edge.optimizer SHARD ENTRY.

`optimize.py` starts it. It says what it did as JSON on stdout. It gives way to what else runs on the computer, and ends
with the process that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

from qdrant_edge import EdgeShard

from clip_qdrant.store.edge.convert.configs import to_edge_config
from clip_qdrant.store.edge.entry import CollectionEntry

__all__ = ["main"]

_NICENESS = 10
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def main() -> None:
    parent = os.getppid()
    _end_with_parent()
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    path, entry = sys.argv[1], CollectionEntry.from_json(json.loads(sys.argv[2]))
    if os.getppid() != parent:
        return
    shard = EdgeShard.load(path, to_edge_config(entry))
    changed = shard.optimize()
    points = shard.info().points_count
    shard.flush()
    shard.close()
    sys.stdout.write(json.dumps({"changed": changed, "points": points}))


def _end_with_parent() -> None:
    """Has the system kill this process when the one that started it ends; the engine lets no thread of Python watch."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
