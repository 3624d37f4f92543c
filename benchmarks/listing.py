"""How fast sources list a million objects of one flat folder, and how much memory that takes.

    python benchmarks/listing.py [--objects 1000000] [--sidecars] [--source folder --source s3]

The folder is made of empty files (give a fast disk by TMPDIR) and deleted after; with --sidecars each image has a .txt
beside it. The S3 store is a stub in another process that makes up its pages, so the time is that of the client.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
from clip_qdrant_ingestion.sources.tree.folder import FolderSource
from clip_qdrant_ingestion.sources.tree.walk import TreeSource

_PAGE = 1000
_OBJECT = (
    "<Contents><Key>img_{number:08}.jpg</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{number:032x}&quot;</ETag><Size>45000</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--objects", type=int, default=1_000_000)
    arguments.add_argument("--sidecars", action="store_true")
    arguments.add_argument("--source", choices=["folder", "s3"], action="append")
    options = arguments.parse_args()
    # A process each: the peak of one must not hide that of the other.
    processes = multiprocessing.get_context("spawn")
    for source in options.source or ["folder", "s3"]:
        target = _list_folder if source == "folder" else _list_s3
        process = processes.Process(target=target, args=(options.objects, options.sidecars))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(process.exitcode)


def _list_folder(objects: int, sidecars: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(objects):
            for suffix in ("jpg", "txt") if sidecars else ("jpg",):
                os.close(os.open(f"{folder}/img_{number:08}.{suffix}", os.O_CREAT | os.O_WRONLY))
        _measure(f"a folder{' with a .txt to each image' if sidecars else ''}", FolderSource(Path(folder)), objects)


def _list_s3(objects: int, _: bool) -> None:
    credentials = {"key": "none", "secret": "none", "client_kwargs": {"region_name": "us-east-1"}}
    with _stub(objects) as endpoint:
        source = BucketSource("s3://photos", storage_options={**credentials, "endpoint_url": endpoint})
        _measure("S3", source, objects)


def _measure(what: str, source: TreeSource, objects: int) -> None:
    before = _memory("VmRSS")
    start = time.perf_counter()
    listed = sum(len(page.objects) for page in source.pages())
    seconds = time.perf_counter() - start
    assert listed == objects
    print(
        f"{what}: {listed:,} objects in {seconds:.1f} s, {listed / seconds:,.0f} objects/s; "
        f"peak memory {_memory('VmHWM'):.0f} MB, {_memory('VmHWM') - before:.0f} MB more than before"
    )


def _memory(which: str) -> float:
    """The resident set of this process in MB: VmRSS is that of now, VmHWM the largest so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"no {which} in /proc/self/status: this benchmark needs Linux")


@contextmanager
def _stub(objects: int) -> Iterator[str]:
    """The endpoint of an S3 store with one flat bucket of so many objects."""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    process = processes.Process(target=_serve, args=(objects, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(objects: int, ready: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            first = int(parse_qs(urlsplit(self.path).query).get("continuation-token", ["0"])[0])
            last = min(first + _PAGE, objects)
            found = "".join(_OBJECT.format(number=number) for number in range(first, last))
            more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < objects else ""
            truncated = "true" if more else "false"
            answer = (
                "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult "
                "xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Name>photos</Name><EncodingType>url</EncodingType>"
                f"<IsTruncated>{truncated}</IsTruncated>{more}{found}</ListBucketResult>"
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    ready.send(server.server_address[1])
    server.serve_forever()


if __name__ == "__main__":
    main()
