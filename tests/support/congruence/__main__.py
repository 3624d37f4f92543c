"""How many random requests of each kind agree between EdgeClient and local mode, or a server.

    PYTHONPATH=tests/support python -m congruence --requests 5000

Ctrl-C ends it, and what was compared until then is shown.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from contextlib import ExitStack, suppress

from qdrant_client import QdrantClient

from clip_qdrant.store.connect import connect
from congruence.worlds import Tally, World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--each", type=int, default=100, help="requests to one collection")
    parser.add_argument("--seed", type=int, default=0, help="of the first collection")
    parser.add_argument("--url", help="a server to compare with, in place of local mode")
    parser.add_argument("--shared", action="store_true", help="an embedded store in a process of its own")
    parser.add_argument("--show", type=int, default=3, help="differences of each kind to print")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # local mode says of what it is given that it makes nothing of it
    tally, layouts = Tally(), Counter[str]()
    with suppress(KeyboardInterrupt):
        for seed in range(asked.seed, asked.seed + max(1, asked.requests // asked.each)):
            _compare(seed, asked, tally, layouts)
    for kind, outcomes in tally.differences.items():
        for outcome in outcomes[: asked.show]:
            print(f"--- {kind}, seed {outcome.seed}: {str(outcome.request)[:1500]}\n    {outcome.difference[:900]}")
    print(tally.table())
    print("collections:", dict(layouts))


def _compare(seed: int, asked: argparse.Namespace, tally: Tally, layouts: Counter[str]) -> None:
    with ExitStack() as open_things:
        folder = open_things.enter_context(tempfile.TemporaryDirectory(prefix="congruence-"))
        ours = connect(folder, shared=asked.shared)
        open_things.callback(ours.close)
        theirs = QdrantClient(url=asked.url) if asked.url else QdrantClient(":memory:")
        open_things.callback(theirs.close)
        world = World(ours, theirs, seed)
        open_things.callback(world.close)
        layouts[world.layout.label] += 1
        for outcome in world.outcomes(asked.each):
            tally.add(outcome)


if __name__ == "__main__":
    main()
