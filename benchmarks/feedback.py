"""What `Query.refine` gains from one round of clicks: prints a table.

    python benchmarks/feedback.py DATA [--model bundled]

A query is the name of a category of openclipart dev; its images are what is looked for. Of the first ten hits those of
the category count as clicked, the others as passed over. Then precision among the next ten that were not shown yet, by
the query as it was and as it was refined.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient
from rich.console import Console
from rich.table import Table

from clip_qdrant import ClipEmbedder, ImageCollection, Query

SHOWN = 10
LEAST = 12  # images of a category that is asked for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="bundled")
    arguments = parser.parse_args()
    folder = arguments.data / "openclipart"
    rows = [json.loads(line) for line in (folder / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    often = Counter(row["category"] for row in rows)
    images = ImageCollection("images", ClipEmbedder.load(arguments.model), QdrantClient(":memory:"))
    images.add([folder / row["image"] for row in rows], metadata=[{"category": row["category"]} for row in rows])
    before: list[float] = []
    after: list[float] = []
    for category in sorted(name for name, count in often.items() if count >= LEAST):
        query = Query.text(category.replace("/", " ").replace("_", " "))
        shown = images.search(query, limit=SHOWN)
        liked = [hit for hit in shown if hit.metadata["category"] == category]
        disliked = [hit for hit in shown if hit.metadata["category"] != category]
        if not liked:
            continue
        for precisions, asked in ((before, query), (after, query.refine(liked=liked, disliked=disliked))):
            seen = {hit.id for hit in shown}
            rest = [hit for hit in images.search(asked, limit=2 * SHOWN) if hit.id not in seen][:SHOWN]
            precisions.append(float(np.mean([hit.metadata["category"] == category for hit in rest])))
    table = Table("categories", "precision of the next 10", "refined by clicks")
    table.add_row(str(len(before)), f"{100 * np.mean(before):.1f} %", f"{100 * np.mean(after):.1f} %")
    Console().print(table)


if __name__ == "__main__":
    main()
