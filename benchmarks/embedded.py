"""The embedded store beside local mode and numpy: writing, opening, memory, disk, and search with and without filters.

    python benchmarks/embedded.py 10000 100000 [--data photos|uniform] [--stores numpy local plain optimized floats]
        [--queries 200] [--folder DIR]

Vectors of 384 numbers are made up. "photos": a hundred to a cluster, with the spectrum of the embeddings of real
photographs (half of the variance is within clusters, 90 % of it in 40 directions); neighbours are a little harder to
find than those of 4,000 photos of Flickr8k (local intrinsic dimension 16 beside 11). "uniform": evenly on the sphere,
where an index has nothing to go by: the worst case. Queries are vectors of the same kind that are not stored.

Stores: "plain" is as written; "optimized" as `EdgeClient.optimize` leaves it; "floats" the same without the vectors in
bytes; "local" is QdrantClient(":memory:"), up to 100,000; "numpy" compares with every vector. Filters let a 1,000th, a
100th and a 10th pass. Each store is measured in a process of its own that opens it. Recall is that of the 10 nearest.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient, models
from rich.console import Console
from rich.table import Table

from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.copy import copy_files, count_bytes_on_disk

DIM, TOP, AT_ONCE, PIECE = 384, 10, 1000, 50_000
STORES = ("numpy", "local", "plain", "optimized", "floats")
MOST_OF_LOCAL_MODE, QUERIES_OF_LOCAL_MODE = 100_000, 5
# Fields, how many values each has, and a prime that spreads them over the numbers of points.
FIELDS = {"album": (1000, 7919), "place": (100, 104_729), "decade": (10, 1_299_709)}
FILTERS = {"all": None, "0.1 %": "album", "1 %": "place", "10 %": "decade"}

Vectors = npt.NDArray[np.float32]
Search = Callable[[Vectors, str | None], "list[int]"]


@dataclass(slots=True)
class Figures:
    """What was measured of one store; milliseconds p50 and p99, and recall, by filter."""

    upsert: float = float("nan")  # points a second
    optimize: float = float("nan")  # seconds
    cpu: float = float("nan")  # seconds of it
    reopen: float = float("nan")  # seconds
    memory: float = float("nan")  # MiB of the process's own after the searches
    mapped: float = float("nan")  # MiB of pages of files, which the system may drop
    disk: float = float("nan")  # MiB
    times: dict[str, tuple[float, float]] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--data", choices=("photos", "uniform"), default="photos")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the stores lie meanwhile")
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for name, figures in measure_stores(size, Path(folder), options):
                rows.append((size, name, figures))
                print(f"{time.strftime('%H:%M:%S')} {size:,} {name} {figures}", file=sys.stderr, flush=True)
    show(rows, options)


def measure_stores(size: int, folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Figures]]:
    vectors, queries = make_vectors(size, options.queries, uniform=options.data == "uniform")
    np.save(folder / "vectors.npy", vectors)
    del vectors
    exact = {name: find_exactly(folder, queries, field) for name, field in FILTERS.items()}
    job = (folder, queries, exact)
    if "numpy" in options.stores:
        yield "numpy", in_a_process(measure_numpy, *job)
    if "local" in options.stores and size <= MOST_OF_LOCAL_MODE:
        yield "local", in_a_process(measure_local_mode, *job)
    if {"plain", "optimized", "floats"} & {*options.stores}:
        upsert = in_a_process(write_store, folder)
        for name in ("plain", "floats", "optimized"):
            if name not in options.stores:
                continue
            root = folder / "store"
            if name == "floats":
                root = folder / name
                sum(copy_files(folder / "store", root))
            seconds = cpu = float("nan")
            if name != "plain":
                seconds, cpu = in_a_process(optimize, root, name == "optimized")
            disk = count_bytes_on_disk(root) / (1 << 20)
            measured = in_a_process(measure_store, root, *job)
            yield (
                name,
                replace(
                    measured, disk=disk, optimize=seconds, cpu=cpu, upsert=upsert if name == "plain" else float("nan")
                ),
            )
            if root.name == "floats":
                shutil.rmtree(root)


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a new process, so that the memory of one does not count for another."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


# The data


def make_vectors(size: int, queries: int, *, uniform: bool) -> tuple[Vectors, Vectors]:
    """Unit vectors to store, (size, 384), and to ask for, (queries, 384)."""
    rng = np.random.default_rng(0)
    # Standard deviations of the principal directions of embeddings of photographs, by the bundled model.
    spread = np.float32(1) if uniform else (1 / (1 + np.arange(1, DIM + 1) / 12) ** 1.2).astype(np.float32)
    centers = rng.standard_normal((max(size // 100, 1), DIM), dtype=np.float32) * (0 if uniform else spread)

    def draw(number: int) -> Vectors:
        made = rng.standard_normal((number, DIM), dtype=np.float32)
        made *= spread
        made += centers[rng.integers(len(centers), size=number)]
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return made

    return draw(size), draw(queries)


def point_id(number: int) -> str:
    return str(uuid.UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 128)))


def payload(number: int) -> dict[str, Any]:
    """Such as that of an image."""
    values = {name: f"{name}-{number * prime % count}" for name, (count, prime) in FIELDS.items()}
    return {
        "uri": f"file:///photos/{number % 1000:04}/{number:08}.jpg",
        "caption": f"a photo of thing {number % 977} in a place that is number {number % 313}",
        "metadata": values,
        "image": {"width": 4000, "height": 3000, "format": "jpeg", "bytes": 2_000_000 + number % 1_000_003},
        "taken_at": f"{2000 + number % 25}-06-15T12:00:00+00:00",
    }


def passing(size: int, field: str | None) -> npt.NDArray[np.int64]:
    numbers = np.arange(size)
    if field is None:
        return numbers
    count, prime = FIELDS[field]
    chosen: npt.NDArray[np.int64] = numbers[numbers * prime % count == 7]
    return chosen


def to_filter(field: str | None) -> models.Filter | None:
    if field is None:
        return None
    return models.Filter(
        must=[models.FieldCondition(key=f"metadata.{field}", match=models.MatchValue(value=f"{field}-7"))]
    )


def find_exactly(folder: Path, queries: Vectors, field: str | None) -> list[list[int]]:
    """The points nearest to each query, in pieces that fit into memory."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    numbers = passing(len(vectors), field)
    best: list[list[tuple[float, int]]] = [[] for _ in queries]
    for start in range(0, len(numbers), PIECE):
        some = numbers[start : start + PIECE]
        scores = queries @ vectors[some].T  # (queries, piece)
        for row, found in enumerate(find_largest(scores)):
            best[row] += [(float(scores[row, one]), int(some[one])) for one in found]
    return [[number for _, number in sorted(one, reverse=True)[:TOP]] for one in best]


def find_largest(scores: Vectors) -> npt.NDArray[np.int64]:
    """The places of the largest in each row, in no order."""
    if scores.shape[1] <= TOP:
        return np.tile(np.arange(scores.shape[1]), (len(scores), 1))
    best: npt.NDArray[np.int64] = np.argpartition(-scores, TOP - 1, axis=1)[:, :TOP]
    return best


# One store each, in a process of its own


def measure_searches(figures: Figures, search: Search, queries: Vectors, exact: dict[str, list[list[int]]]) -> Figures:
    for name, filtered in FILTERS.items():
        search(queries[0], filtered)
        times, found = [], 0
        for query, wanted in zip(queries, exact[name], strict=True):
            start = time.perf_counter()
            answer = search(query, filtered)
            times.append(1000 * (time.perf_counter() - start))
            found += len({*answer} & {*wanted})
        p50, p99 = np.percentile(times, [50, 99])
        figures.times[name] = float(p50), float(p99)
        figures.recall[name] = found / sum(len(one) for one in exact[name])
    figures.memory, figures.mapped = read_memory("RssAnon"), read_memory("RssFile", "RssShmem")
    return figures


def measure_numpy(folder: Path, queries: Vectors, exact: dict[str, list[list[int]]]) -> Figures:
    start = time.perf_counter()
    vectors: Vectors = np.load(folder / "vectors.npy")
    figures = Figures(reopen=time.perf_counter() - start, disk=vectors.nbytes / (1 << 20))
    among = {field: passing(len(vectors), field) for field in FIELDS}

    def search(query: Vectors, field: str | None) -> list[int]:
        numbers = among[field] if field else np.arange(len(vectors))
        scores = (vectors[numbers] if field else vectors) @ query
        found = find_largest(scores[None])[0]
        return [int(numbers[one]) for one in found[np.argsort(-scores[found])]]

    return measure_searches(figures, search, queries, exact)


def measure_local_mode(folder: Path, queries: Vectors, exact: dict[str, list[list[int]]]) -> Figures:
    client = QdrantClient(":memory:")
    upsert = write(client, np.load(folder / "vectors.npy"))
    few = queries[:QUERIES_OF_LOCAL_MODE]  # one with a filter takes seconds among 100,000
    known = {key: found[: len(few)] for key, found in exact.items()}
    return measure_searches(Figures(upsert=upsert), search_of(client), few, known)


def measure_store(root: Path, _: Path, queries: Vectors, exact: dict[str, list[list[int]]]) -> Figures:
    with EdgeClient(root) as client:
        start = time.perf_counter()
        client.count("photos")
        figures = Figures(reopen=time.perf_counter() - start)
        return measure_searches(figures, search_of(client), queries, exact)


def search_of(client: Any) -> Search:
    def search(query: Vectors, field: str | None) -> list[int]:
        answer = client.query_points("photos", query=query.tolist(), query_filter=to_filter(field), limit=TOP)
        return [to_number(point.payload) for point in answer.points]

    return search


def to_number(stored: dict[str, Any]) -> int:
    return int(stored["uri"].rpartition("/")[2].removesuffix(".jpg"))


def write_store(folder: Path) -> float:
    with EdgeClient(folder / "store") as client:
        return write(client, np.load(folder / "vectors.npy", mmap_mode="r"))


def write(client: Any, vectors: Vectors) -> float:
    """Points a second."""
    client.create_collection("photos", models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    if isinstance(client, EdgeClient):  # the other one has none
        for name in FIELDS:
            client.create_payload_index("photos", f"metadata.{name}", models.PayloadSchemaType.KEYWORD)
        client.create_payload_index("photos", "uri", models.PayloadSchemaType.KEYWORD)
        client.create_payload_index("photos", "taken_at", models.PayloadSchemaType.DATETIME)
        client.create_payload_index("photos", "image.bytes", models.PayloadSchemaType.INTEGER)
    start = time.perf_counter()
    for first in range(0, len(vectors), AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, len(vectors)))
        rows = vectors[numbers.start : numbers.stop].tolist()
        client.upsert(
            "photos", models.Batch(ids=[*map(point_id, numbers)], vectors=rows, payloads=[*map(payload, numbers)])
        )
    return len(vectors) / (time.perf_counter() - start)


def optimize(root: Path, quantize: bool) -> tuple[float, float]:
    """Seconds, and those of all processors together."""
    with EdgeClient(root) as client:
        client.count("photos")
        before, start = os.times(), time.perf_counter()
        client.optimize("photos", quantize=quantize)
        after = os.times()
        return time.perf_counter() - start, sum(after[:4]) - sum(before[:4])


def read_memory(*kinds: str) -> float:
    """MiB of this process, of some kinds that Linux tells apart."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) / 1024


def show(rows: list[tuple[int, str, Figures]], options: argparse.Namespace) -> None:
    title = f"{options.data}, {options.queries} queries; p50 / p99 in milliseconds, recall of the {TOP} nearest"
    table = Table(title=title)
    measured = ("upsert/s", "optimize s (CPU s)", "reopen s", "memory + mapped MiB", "disk MiB")
    for heading in ("points", "store", *measured, *FILTERS, "recall"):
        table.add_column(heading, justify="left" if heading == "store" else "right")
    for size, name, one in rows:
        optimized = "" if np.isnan(one.optimize) else f"{one.optimize:.0f} ({one.cpu:.0f})"
        memory = f"{_number(one.memory, 0)} + {_number(one.mapped, 0)}"
        searches = [f"{one.times[key][0]:.2f} / {one.times[key][1]:.1f}" for key in FILTERS]
        recalls = " ".join(f"{one.recall[key]:.3f}" for key in FILTERS)
        costs = (_number(one.upsert, 0), optimized, _number(one.reopen, 2), memory, _number(one.disk, 0))
        table.add_row(f"{size:,}", name, *costs, *searches, recalls)
    Console(width=190).print(table)


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:,.{digits}f}"


if __name__ == "__main__":
    main()
