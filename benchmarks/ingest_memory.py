"""Peak memory of ingestion, by number of images.

    python benchmarks/ingest_memory.py DATA_FOLDER [--counts 1000 10000] [--model bundled] [--server]

Each count is ingested in a process of its own, into a new embedded store, which that process holds too, or with
`--server` into one behind a server (that of the tests) in another process; then what grows is the worker's alone.
DATA_FOLDER is used as often as it takes, by symbolic links with other names. Peak is what the operating system says of
the process (ru_maxrss).
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import FolderSource, ingest


def measured(folder: Path, count: int, model: str, *, server: bool) -> tuple[float, float]:
    """Peak in MB after loading the model, and after the run."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        store = Path(scratch) / "store"
        if server:
            from edge_server import EdgeServer

            client: QdrantBase = connect(stack.enter_context(EdgeServer(store)).url)
        else:
            client = stack.enter_context(EdgeClient(store))
        images = Path(scratch) / "images"
        for number in range(count):
            link = images / f"{number // 1000:04}" / f"{number:07}{files[number % len(files)].suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(files[number % len(files)].resolve())
        embedder = ClipEmbedder.load(model)
        embedder.embed_images([files[0]])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        report = ingest(FolderSource(images), ImageCollection("images", embedder, client))
        assert report.listed == count
        assert not report.quarantined, report.quarantined[:3]
        return before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # what a process of its own is given
    options = parser.parse_args()
    if options.one:
        print(*measured(options.folder, options.one, options.model, server=options.server))
        return
    table = Table("images", "MB with the model", "peak MB", "times the first", title="peak memory of ingestion")
    first = None
    for count in options.counts:
        command = [sys.executable, __file__, str(options.folder), "--one", str(count), "--model", options.model]
        command += ["--server"] if options.server else []
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        before, peak = map(float, done.stdout.split())
        first = first or peak
        table.add_row(f"{count:,}", f"{before:.0f}", f"{peak:.0f}", f"{peak / first:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
