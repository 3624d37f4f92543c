"""What it costs to share an embedded store: calls in this process beside calls to the process of the store.

    python benchmarks/shared_store.py [--points 10000] [--searched 100000] [--seconds 5] [--rounds 300]

Made-up unit vectors of 384 numbers with a payload like that of an image. The first table has the milliseconds of single
calls. The second has a thread that wants to wake every millisecond, as what serves other requests does, while four
others search a larger collection: how late it wakes, and how many searches there are in a second.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import models
from rich.console import Console
from rich.table import Table

from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.process.address import StoreAddress
from clip_qdrant.store.edge.process.client import SharedEdgeClient

DIM = 384
HEARTBEAT = 0.001  # seconds
THREADS = 4
NAMES = ("in this process", "shared")


def make_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors  # (count, dim), float32


def make_payload(number: int) -> dict[str, Any]:
    return {
        "uri": f"file:///photos/{number % 100}/{number:07}.jpg",
        "caption": f"photo {number} of a series",
        "metadata": {"album": f"album {number % 50}", "year": 1990 + number % 35},
        "image": {"width": 4000, "height": 3000, "format": "JPEG", "bytes": 3_000_000 + number},
        "taken_at": "2024-05-01T12:00:00+02:00",
    }


def make_points(vectors: np.ndarray, first: int = 0) -> list[models.PointStruct]:
    rows = vectors.tolist()
    return [models.PointStruct(id=first + i, vector=row, payload=make_payload(first + i)) for i, row in enumerate(rows)]


def fill(folder: Path, count: int) -> None:
    vectors = make_vectors(count, seed=0)
    with EdgeClient(folder) as client:
        client.create_collection("photos", models.VectorParams(size=DIM, distance=models.Distance.COSINE))
        for start in range(0, count, 1000):
            client.upsert("photos", make_points(vectors[start : start + 1000], start))


def measure(call: Callable[[int], Any], rounds: int) -> list[float]:
    """Milliseconds of each call."""
    call(0)
    taken = []
    for number in range(rounds):
        begin = time.perf_counter()
        call(number)
        taken.append(1000 * (time.perf_counter() - begin))
    return taken


def measure_calls(client: Any, count: int, rounds: int) -> dict[str, list[float]]:
    queries = make_vectors(rounds, seed=1).tolist()
    fresh = [make_points(make_vectors(100, seed=2 + i), count + 100 * i) for i in range(rounds // 10)]
    chosen = np.random.default_rng(3).integers(0, count, (rounds, 100)).tolist()
    return {
        "query_points, 10 hits with payload": measure(lambda i: client.query_points("photos", queries[i]), rounds),
        "retrieve, 100 points with payload": measure(lambda i: client.retrieve("photos", chosen[i]), rounds),
        "upsert, 100 points": measure(lambda i: client.upsert("photos", fresh[i]), len(fresh)),
        "count": measure(lambda _: client.count("photos"), rounds),
    }


def measure_heartbeat(client: Any, seconds: float) -> tuple[list[float], float]:
    """How many milliseconds late each beat is, and searches in a second."""
    queries = make_vectors(100, seed=4).tolist()
    for query in queries[:5]:
        client.query_points("photos", query)
    searches, end = [0] * THREADS, time.perf_counter() + seconds

    def search(thread: int) -> None:
        while time.perf_counter() < end:
            client.query_points("photos", queries[searches[thread] % 100])
            searches[thread] += 1

    threads = [threading.Thread(target=search, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    late = []
    while (now := time.perf_counter()) < end:
        time.sleep(HEARTBEAT)
        late.append(1000 * (time.perf_counter() - now - HEARTBEAT))
    for thread in threads:
        thread.join()
    return late, sum(searches) / seconds


def at(values: Sequence[float], percent: float) -> str:
    return f"{np.percentile(values, percent):.2f}"


def compare_calls(console: Console, count: int, rounds: int) -> None:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), count)
        for name in NAMES:
            with connect(folder, shared=name == "shared") as client:  # type: ignore[attr-defined]  # both kinds can
                begin = time.perf_counter()
                client.count("photos")
                opened = time.perf_counter() - begin
                if isinstance(client, SharedEdgeClient):
                    console.print(f"first call, with the start of the process: {opened:.2f} s; {describe(folder)}")
                results.append(measure_calls(client, count, rounds))
    table = Table(title=f"one call among {count:,} points, milliseconds")
    for heading in ("", *(f"{name}, {figure}" for name in NAMES for figure in ("p50", "p99"))):
        table.add_column(heading, justify="right" if heading else "left")
    for call in results[0]:
        table.add_row(call, *(at(result[call], percent) for result in results for percent in (50, 99)))
    console.print(table)


def describe(folder: str) -> str:
    """Memory and CPU of the process of a store, where the system tells."""
    address = StoreAddress.read(Path(folder))
    status = Path(f"/proc/{address.pid if address else 0}")
    if not status.exists():
        return ""
    lines = dict(line.split(":", 1) for line in (status / "status").read_text().splitlines())
    ticks = sum(map(int, (status / "stat").read_text().rpartition(")")[2].split()[11:13]))
    megabytes, seconds = int(lines["RssAnon"].split()[0]) / 1000, ticks / os.sysconf("SC_CLK_TCK")
    return f"it has {megabytes:.0f} MB of its own, and took {seconds:.1f} s of CPU"


def compare_heartbeats(console: Console, count: int, seconds: float) -> None:
    table = Table(title=f"a thread that wakes each millisecond while {THREADS} search {count:,} points, ms late")
    for heading in ("", "p50", "p99", "max", "searches/s"):
        table.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), count)
        for name in NAMES:
            with connect(folder, shared=name == "shared") as client:  # type: ignore[attr-defined]  # both kinds can
                late, rate = measure_heartbeat(client, seconds)
                table.add_row(name, at(late, 50), at(late, 99), at(late, 100), f"{rate:.0f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--searched", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    console = Console(width=120)
    compare_calls(console, options.points, options.rounds)
    compare_heartbeats(console, options.searched, options.seconds)


if __name__ == "__main__":
    main()
