"""How long a search takes from the shell: `clip-qdrant search`, from start to end of the process.

    python benchmarks/start.py [--against CHECKOUT] [--rounds 10] [--fresh]

The sample gallery is ingested into a store first, by which the model is checked once. With --fresh each search finds an
empty cache folder, as the first one on a computer does. `--against` is another checkout of this project, whose program
is run in turn with this one's, by the same Python.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(checkout: Path, *arguments: str, cache: Path | None = None) -> tuple[float, float]:
    """Seconds of wall clock and of CPU that the program of a checkout takes, with a cache folder of its own."""
    folders = [checkout, checkout / "ingestion", checkout / "training"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    if cache:
        environment["CLIP_QDRANT_CACHE_DIR"] = str(cache)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "clip_qdrant", *arguments], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--fresh", action="store_true", help="an empty cache folder for each search")
    options = parser.parse_args()
    checkouts = {"this": ROOT} | ({"other": options.against.resolve()} if options.against else {})
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in checkouts}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, checkout in checkouts.items():
            run(checkout, "ingest", str(ROOT / "content" / "gallery"), "--location", name)
        for _ in range(options.rounds):
            for name, checkout in checkouts.items():
                cache = Path(tempfile.mkdtemp(dir=folder)) if options.fresh else None
                times[name].append(run(checkout, "search", "a bird", "--location", name, cache=cache))
    print(f"{'checkout':10}{'wall s, median':>16}{'least':>8}{'CPU s, median':>16}")
    for name, rounds in times.items():
        wall, cpu = zip(*rounds, strict=True)
        print(f"{name:10}{statistics.median(wall):16.2f}{min(wall):8.2f}{statistics.median(cpu):16.2f}")
    if options.against:
        pairs = zip(times["this"], times["other"], strict=True)
        ratios = [mine[0] / theirs[0] for mine, theirs in pairs]
        print(f"this / other, wall, pair by pair: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
