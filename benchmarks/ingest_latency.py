"""What the latency of a bucket costs: the same images from S3 (moto, on loopback) without and with a wait for each GET.

    python benchmarks/ingest_latency.py DATA_FOLDER [--images 600] [--latency 0.1] [--rounds 2]

The server runs in a process of its own, on the same cores; so images/s are less than from a folder, in both rows alike.
The two take turns. Needs the packages of the tests (moto, flask).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from s3 import FlakyProxy

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.embedder import ClipEmbedder
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import BucketSource, FolderSource, ingest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="bundled")
    options = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    embedder = ClipEmbedder.load(options.model)
    rates: dict[float, list[float]] = {0.0: [], options.latency: []}
    code = "from moto.server import main; main()"
    with subprocess.Popen([sys.executable, "-c", code, "-p", "5555"], stderr=subprocess.DEVNULL) as server:
        try:
            url = "http://127.0.0.1:5555"
            fill(url, options.folder, options.images)
            for _ in range(options.rounds):
                for latency, found in rates.items():
                    with FlakyProxy(url, latency=latency).running() as proxy:
                        found.append(rate(embedder, proxy.url, options.images))
        finally:
            server.terminate()
    table = Table("latency of a GET", "images/s", "share of the first", title=f"{options.images} images from S3")
    first = statistics.median(rates[0.0])
    for latency, found in rates.items():
        middle = statistics.median(found)
        table.add_row(f"{1000 * latency:.0f} ms", f"{middle:.1f}", f"{middle / first:.3f}")
    Console().print(table)


def fill(url: str, folder: Path, count: int) -> None:
    """Puts the first images of a folder into a bucket."""
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", endpoint_url=url, config=Config(retries={"max_attempts": 10}))
    client.create_bucket(Bucket="photos")
    paths = [Path(item.name) for page in FolderSource(folder).pages() for item in page.objects][:count]
    for path in paths:
        client.put_object(Bucket="photos", Key=path.as_posix(), Body=(folder / path).read_bytes())


def rate(embedder: ClipEmbedder, url: str, count: int) -> float:
    """Images a second of a run over the bucket."""
    source = BucketSource("s3://photos", storage_options={"endpoint_url": url}, object_metadata=False)
    with tempfile.TemporaryDirectory() as folder, EdgeClient(folder) as client:
        report = ingest(source, ImageCollection("photos", embedder, client))
    assert report.added + report.copied == count, report
    return report.images_per_second


if __name__ == "__main__":
    main()
