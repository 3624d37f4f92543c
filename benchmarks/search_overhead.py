"""What ImageCollection.search costs over the bare call of the client, by query vector: median milliseconds.

    python benchmarks/search_overhead.py                          # embedded: 100,000 made-up images; :memory: 2,000
    python benchmarks/search_overhead.py http://localhost:6333    # and a server
    python benchmarks/search_overhead.py --images 10000 --queries 300

The embedded store is measured as it was filled, where a search compares all vectors and pushes everything else out of
the processor's caches, and optimized. Both calls alternate, so that what else the computer does falls on both alike.
The bare call is query_points with the filter built already, and gives the points as the client does.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import QdrantClient
from rich.console import Console
from rich.table import Table

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.filters.build import build_filter
from clip_qdrant.records import ImageRecord
from clip_qdrant.store.connect import connect

NAME, DIM, BATCH = "search_overhead", 384, 1000
WHERE = "year = 2007 and album = 'a3'"  # 1 of 100
WARM_UP = 20  # searches before the clock starts
MOST_IN_MEMORY = 2_000  # a filtered search of the in-memory store takes 40 ms for each 1,000 images


class VectorsOnly:
    """An embedder of made-up vectors; nothing is embedded here."""

    dim = DIM
    fingerprint = hashlib.sha256(b"made up").hexdigest()
    image_size = 224

    def preprocess(self, rgb: Any) -> Any:
        raise NotImplementedError

    embed_pixels = embed_images = embed_texts = preprocess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "url", nargs="?", help="of a Qdrant server to measure too; the collection made there is deleted"
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the embedded store is made; the system's, by default")
    options = parser.parse_args()
    columns = ("store", "images", "where", "bare p50", "search p50", "over p50", "over p90")
    table = Table(*columns, title="milliseconds")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        makers: dict[str, Callable[[], Any]] = {
            "embedded": lambda: connect(Path(folder) / "store"),
            ":memory:": lambda: QdrantClient(":memory:"),
        }
        if options.url:
            makers[options.url] = lambda: connect(options.url)
        for store, make in makers.items():
            client = make()
            photos = ImageCollection(NAME, VectorsOnly(), client)
            number = min(options.images, MOST_IN_MEMORY) if store == ":memory:" else options.images
            fill(photos, number)
            for state in ("", ", optimized") if store == "embedded" else ("",):
                if state:
                    client.optimize(NAME)
                for where in (None, WHERE):
                    table.add_row(store + state, f"{number:,}", where or "", *measure(photos, where, options.queries))
            photos.drop()
            client.close()
    Console().print(table)


def fill(photos: ImageCollection, number: int) -> None:
    chosen = np.random.default_rng(0)
    photos.drop()
    for start in range(0, number, BATCH):
        numbers = range(start, min(number, start + BATCH))
        records = [
            ImageRecord(
                f"file:///photos/{one:07}.jpg",
                caption=f"picture number {one}",
                metadata={"year": 2000 + one % 10, "album": f"a{one // 10 % 10}", "tags": ["made", "up"]},
            )
            for one in numbers
        ]
        photos.writer.write(records, unit(chosen.normal(size=(len(numbers), DIM))))


def unit(rows: np.ndarray) -> np.ndarray:
    units: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return units.astype(np.float32)


def measure(photos: ImageCollection, where: str | None, queries: int) -> Iterable[str]:
    """Medians of the bare call, of the search and of the difference of the two, and its 90th percentile."""
    selection = build_filter(where, photos.fields) if where else None
    bare, ours, over = [], [], []
    for number, vector in enumerate(unit(np.random.default_rng(1).normal(size=(queries + WARM_UP, DIM)))):
        row = vector.tolist()

        def call(row: list[float] = row) -> Any:
            return photos.client.query_points(
                photos.name, query=row, query_filter=selection, limit=10, with_payload=True
            )

        def search(row: list[float] = row) -> Any:
            return photos.search(row, where=where, limit=10)

        first, second = (call, search) if number % 2 else (search, call)
        times = {first: clock(first), second: clock(second)}
        if number >= WARM_UP:
            bare.append(times[call])
            ours.append(times[search])
            over.append(times[search] - times[call])
    figures = (*map(statistics.median, (bare, ours, over)), statistics.quantiles(over, n=10)[-1])
    return [f"{1000 * figure:.2f}" for figure in figures]


def clock(use: Callable[[], Any]) -> float:
    start = time.perf_counter()
    use()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
