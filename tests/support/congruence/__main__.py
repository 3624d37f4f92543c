"""How many random requests of each kind agree between EdgeClient and local mode, or a server.

PYTHONPATH=tests/support python -m congruence --requests 5000 [--seed 0] [--url http://localhost:6333] [--show 3]
"""

from __future__ import annotations

import argparse
import tempfile
import traceback
from collections import Counter
from contextlib import ExitStack

from qdrant_client import QdrantClient

from clip_qdrant.store.connect import connect
from congruence.worlds import Tally, World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--each", type=int, default=100, help="requests to one collection")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="a server to compare with, in place of local mode")
    parser.add_argument("--show", type=int, default=3, help="differences of each kind to print")
    parser.add_argument("--kind", help="print only differences of this kind")
    parser.add_argument("--shared", action="store_true", help="an embedded store in a process of its own")
    parser.add_argument("--local", action="store_true", help="local mode with itself, to try the generator")
    asked = parser.parse_args()
    tally, layouts = Tally(), Counter[str]()
    for seed in range(asked.seed, asked.seed + max(1, asked.requests // asked.each)):
        with ExitStack() as open_things:
            folder = open_things.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm", prefix="congruence-"))
            ours = QdrantClient(":memory:") if asked.local else connect(folder, shared=asked.shared)
            theirs = QdrantClient(url=asked.url) if asked.url else QdrantClient(":memory:")
            open_things.callback(ours.close)
            open_things.callback(theirs.close)
            try:
                world = World(ours, theirs, seed)
            except Exception:  # noqa: BLE001 - one collection, not all
                layouts["refused"] += 1
                print(f"seed {seed}: {traceback.format_exc(limit=-2)}")
                continue
            layouts[world.layout.label] += 1
            for outcome in world.outcomes(asked.each):
                tally.add(outcome)
    for kind, outcomes in tally.differences.items():
        for outcome in outcomes[: asked.show if asked.kind in (None, kind) else 0]:
            print(f"--- {kind}, seed {outcome.seed}: {str(outcome.request)[:1500]}\n    {outcome.difference[:900]}")
    print(tally.table())
    print("collections:", dict(layouts))


if __name__ == "__main__":
    main()
