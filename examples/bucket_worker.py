"""Keeps a collection as a bucket is: what is new is embedded, and what the bucket has lost is deleted.

python examples/bucket_worker.py s3://bucket/photos             # one run (pip install 'clip-qdrant[s3]')
python examples/bucket_worker.py s3://bucket/photos --every 60  # and again every minute

`clip-qdrant ingest … --watch` and `python -m clip_qdrant_ingestion` do this with probes, metrics and events.
"""

import argparse
import time
from contextlib import closing

from clip_qdrant import ClipEmbedder, ImageCollection, connect
from clip_qdrant_ingestion import ingest, open_source


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bucket")
    parser.add_argument("--location", default="./qdrant-data", help="or http://localhost:6333")
    parser.add_argument("--every", type=float, default=0, help="seconds between runs; 0 for one run")
    given = parser.parse_args()
    with closing(connect(given.location)) as client:
        photos = ImageCollection("photos", ClipEmbedder.load(), client)
        source = open_source(given.bucket)
        while True:
            report = ingest(source, photos, delete=True)
            print(f"{report.added} added, {report.skipped} unchanged, {report.deleted} deleted")
            for bad in report.quarantined:
                print(f"  {bad.uri}: {bad.reason}")
            if not given.every:
                return
            time.sleep(given.every)


if __name__ == "__main__":
    main()
