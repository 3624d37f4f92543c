"""Images per second of the embedder: ONNX Runtime against torch, on the CPU.

    python benchmarks/embedder.py DATA_FOLDER [--images 256] [--model bundled] [--rounds 3]

The two take turns, round after round, so that a change in the load of the machine meets both; the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.images.load import load_image
from clip_qdrant_ingestion import FolderSource


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    embedders = {
        "ONNX Runtime": ClipEmbedder.load(options.model, runtime="onnx"),
        "torch": ClipEmbedder.load(options.model, runtime="torch", device="cpu"),
    }
    first = embedders["ONNX Runtime"]
    listed = [image for page in FolderSource(options.folder).pages() for image in page.objects]
    pixels = np.stack(
        [first.preprocess(load_image(item.uri, target=first.image_size).rgb) for item in listed[: options.images]]
    )
    batches = [pixels[start : start + options.batch_size] for start in range(0, len(pixels), options.batch_size)]
    one, other = (embedder.embed_pixels(batches[0]) for embedder in embedders.values())
    rates: dict[str, list[float]] = {name: [] for name in embedders}
    cpu: dict[str, list[float]] = {name: [] for name in embedders}
    for _ in range(options.rounds):
        for name, embedder in embedders.items():
            clock, busy = time.perf_counter(), time.process_time()
            for batch in batches:
                embedder.embed_pixels(batch)
            rates[name].append(len(pixels) / (time.perf_counter() - clock))
            cpu[name].append(1000 * (time.process_time() - busy) / len(pixels))

    table = Table(title=f"{len(pixels)} images of {first.image_size} px, batches of {options.batch_size}")
    for heading in ("runtime", "images/s", "CPU ms/image", "times torch"):
        table.add_column(heading, justify="left" if heading == "runtime" else "right")
    torch_rate = statistics.median(rates["torch"])
    for name in embedders:
        rate = statistics.median(rates[name])
        table.add_row(name, f"{rate:.1f}", f"{statistics.median(cpu[name]):.2f}", f"{rate / torch_rate:.2f}")
    console = Console()
    console.print(table)
    console.print(f"largest difference of a vector element: {np.abs(one - other).max():.1e}")


if __name__ == "__main__":
    main()
