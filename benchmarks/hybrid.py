"""How many images are found by likeness, by words, and by both: recall of `search(text=…)`.

    python benchmarks/hybrid.py DATA/flickr8k [--split dev] [--queries 1000] [--cache VECTORS.npz]

Each image is stored with its first caption, and looked for by its second one; where the rows have a title and
keywords, it is stored with the keywords and its file's name, and looked for by the title. `--cache` keeps the vectors.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.query import Query
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.records import ImageRecord
from clip_qdrant.store.edge.client import EdgeClient

RANKS = (1, 5, 10)
WEIGHTS = (0.4, 0.52, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()

    rows = [json.loads(line) for line in (options.folder / f"{options.split}.jsonl").read_text().splitlines()]
    records, texts = [_record(options.folder, row) for row in rows], [_query(row) for row in rows]
    embedder = ClipEmbedder.load()
    images, queries = _embed(embedder, options.folder, rows, texts, options.cache)
    ways: list[tuple[str, Mapping[str, Any]]] = [("likeness", {}), ("words", {"text": True})]
    for fusion in ("sum", "rrf"):
        ways += [(f"{fusion}, words {weight}", {"fusion": fusion, "text_weight": weight}) for weight in WEIGHTS]
    table = Table(title=f"{options.folder.name} {options.split}: {len(rows)} images, recall in %")
    for heading in ("", *(f"@{rank}" for rank in RANKS), "ms"):
        table.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, EdgeClient(folder) as client:
        photos = ImageCollection("photos", embedder, client)
        for start in range(0, len(rows), 200):
            photos.writer.write(records[start : start + 200], images[start : start + 200])
        for name, chosen in ways:
            places, began = [], time.perf_counter()
            for record, text, vector in list(zip(records, texts, queries, strict=True))[: options.queries]:
                if name == "words":
                    hits: Sequence[Hit] = photos.search(text=text, limit=max(RANKS), payload=False)
                else:
                    words = text if chosen else None
                    hits = photos.search(Query.vector(vector), text=words, limit=max(RANKS), payload=False, **chosen)
                ids = [hit.id for hit in hits]
                places.append(ids.index(record.id) if record.id in ids else max(RANKS))
            milliseconds = 1000 * (time.perf_counter() - began) / len(places)
            found = (f"{100 * float(np.mean(np.array(places) < rank)):.1f}" for rank in RANKS)
            table.add_row(name, *found, f"{milliseconds:.1f}")
    Console().print(table)


def _record(folder: Path, row: Mapping[str, Any]) -> ImageRecord:
    uri = (folder / row["image"]).absolute().as_uri()
    if "keywords" in row:
        return ImageRecord(uri, metadata={"keywords": row["keywords"]})
    return ImageRecord(uri, caption=row["captions"][0])


def _query(row: Mapping[str, Any]) -> str:
    return str(row["title"] if "keywords" in row else row["captions"][1])


def _embed(
    embedder: ClipEmbedder, folder: Path, rows: Sequence[Mapping[str, Any]], texts: Sequence[str], cache: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the images and of the queries, float32 (n, dim) each."""
    if cache is not None and cache.exists():
        with np.load(cache) as kept:
            return kept["images"], kept["texts"]
    images, queries = embedder.embed_images([folder / row["image"] for row in rows]), embedder.embed_texts(texts)
    if cache is not None:
        np.savez(cache, images=images, texts=queries)
    return images, queries


if __name__ == "__main__":
    main()
