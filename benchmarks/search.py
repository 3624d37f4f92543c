"""Where the time of a search goes: text encoding, Qdrant, and our own code around them.

    python benchmarks/search.py DATA_FOLDER [--images 1000] [--queries 200] [--where "image.width >= 100"]

Ingests the first images of DATA_FOLDER into a temporary embedded store and asks it short texts, each one once.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ingest import FirstImages
from rich.console import Console
from rich.table import Table

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import ingest

SUBJECTS = ("a dog", "two children", "a man", "a woman in red", "a group of people", "a cyclist", "a horse", "a boat")
ACTIONS = ("running", "sitting on a bench", "jumping into water", "playing with a ball", "climbing a rock")
PLACES = ("on the beach", "in the snow", "in a park", "on a city street", "at night")


class Stopwatch:
    """Adds up the milliseconds spent in the calls it wraps."""

    def __init__(self) -> None:
        self.milliseconds = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                self.milliseconds += 1000 * (time.perf_counter() - start)

        return timed


class TimedEmbedder:
    """An embedder whose text encoding is timed."""

    def __init__(self, embedder: ClipEmbedder, stopwatch: Stopwatch) -> None:
        self.dim, self.fingerprint, self.image_size = embedder.dim, embedder.fingerprint, embedder.image_size
        self.preprocess, self.embed_pixels = embedder.preprocess, embedder.embed_pixels
        self.embed_images = embedder.embed_images
        self._embed_texts = stopwatch.around(embedder.embed_texts)

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        vectors: np.ndarray = self._embed_texts(texts)
        return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--where")
    options = parser.parse_args()

    embedder = ClipEmbedder.load(options.model)
    encoding, qdrant = Stopwatch(), Stopwatch()
    rows: list[tuple[float, float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder, EdgeClient(folder) as client:
        ingest(FirstImages(options.folder, options.images), ImageCollection("photos", embedder, client))
        client.query_points = qdrant.around(client.query_points)  # type: ignore[method-assign]  # timed, not changed
        photos = ImageCollection("photos", TimedEmbedder(embedder, encoding), client)
        count = photos.count()
        texts = [" ".join(words) for words in itertools.product(SUBJECTS, ACTIONS, PLACES)][: options.queries]
        for text in ["warm up", *texts]:
            encoding.milliseconds = qdrant.milliseconds = 0.0
            start = time.perf_counter()
            photos.search(text, where=options.where)
            whole = 1000 * (time.perf_counter() - start)
            own = whole - encoding.milliseconds - qdrant.milliseconds
            rows.append((whole, encoding.milliseconds, qdrant.milliseconds, own))

    table = Table(title=f"{len(texts)} searches among {count} images, {embedder.runtime}, milliseconds")
    for heading in ("", "p50", "p90"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in zip(
        ("search", "text encoding", "Qdrant", "own code"), zip(*rows[1:], strict=True), strict=True
    ):
        p90 = statistics.quantiles(values, n=10)[-1]
        table.add_row(name, f"{statistics.median(values):.2f}", f"{p90:.2f}", end_section=name == "search")
    Console().print(table)


if __name__ == "__main__":
    main()
