"""What the first use of an embedded collection costs: the collection, its payload indexes one by one, and the closing.

    python benchmarks/first_use.py [--folder .] [--rounds 5]

The engine syncs as it creates an index: 13 of them make 126 calls of fsync and 565 of msync. So the time is the disk's,
and with --folder /dev/shm the processor's. Two ways around it were tried in turn with this one, on an idle disk and on
a busy one, and neither was quicker: all indexes before the first flush, and a shard built in memory, copied, and each
of its 148 files synced. One sync for all files would help, but a program can only ask for one of the whole system.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdrant_client import models
from rich.console import Console
from rich.table import Table

from clip_qdrant.fields.schema import Schema, index_params
from clip_qdrant.store.edge.client import EdgeClient

VECTORS = models.VectorParams(size=512, distance=models.Distance.COSINE)
INDEXES: Mapping[str, Any] = {key: index_params(kind) for key, kind in Schema().indexes().items()}


def measure(folder: Path) -> dict[str, float]:
    """Seconds of each step, from an empty folder to a closed collection."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        moments = [time.perf_counter()]
        client = EdgeClient(place)
        client.create_collection("photos", VECTORS)
        moments.append(time.perf_counter())
        for field, params in INDEXES.items():
            client.create_payload_index("photos", field, params)
        moments.append(time.perf_counter())
        client.close()
        moments.append(time.perf_counter())
    steps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    return dict(zip(("the collection", f"{len(INDEXES)} indexes", "closing"), steps, strict=True)) | {"all": sum(steps)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds = [measure(options.folder) for _ in range(options.rounds)]
    table = Table("step", "median", "least", "most", title=f"seconds in {options.folder.resolve()}")
    for step in rounds[0]:
        found = [each[step] for each in rounds]
        table.add_row(step, *(f"{value:.3f}" for value in (statistics.median(found), min(found), max(found))))
    Console().print(table)


if __name__ == "__main__":
    main()
