"""Prints the peak of memory of a run whose server sends other sizes than it tells.

python benchmarks/ingest_memory.py [OBJECTS] [MIB] [READERS]

HEAD says 1,000 bytes of each object, GET sends MIB mebibytes that are no image. The server is another process; the
embedder is a stand-in, so what is measured is the reading. For Linux.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image
from qdrant_client import QdrantClient

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.images.load import ImageInput
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion import ManifestSource, ingest


class Embedder:
    """Never asked for a vector: no object is an image."""

    dim = 8
    image_size = 16
    fingerprint = "0" * 64

    def preprocess(self, rgb: Image.Image) -> np.ndarray:
        raise NotImplementedError

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def embed_images(self, images: Iterable[ImageInput]) -> np.ndarray:
        raise NotImplementedError

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        raise NotImplementedError


def peak_memory() -> float:
    """The most memory of this process so far, in MiB. Not ru_maxrss, which begins with that of the parent process."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None, "Linux tells it"
    return int(found[1]) / 1024


def serve(address: Connection, size: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for _ in range(size):
                    self.wfile.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            except OSError:  # it has seen enough
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address.send(server.server_address[1])
    server.serve_forever()


def main(objects: int = 64, size: int = 63, readers: int = 32) -> None:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, size), daemon=True)
    server.start()
    port = ours.recv()
    before = peak_memory()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "t.csv"
        table.write_text("\n".join(["url", *(f"http://127.0.0.1:{port}/{n}.jpg" for n in range(objects))]))
        collection = ImageCollection("photos", Embedder(), QdrantClient(":memory:"))
        source = ManifestSource(table, fetcher=Fetcher(allow_private=True, timeout=300))
        report = ingest(source, collection, readers=readers)
    server.terminate()
    peak = peak_memory()
    reasons = report.summary()["reasons"]
    print(f"{objects} objects of {size} MiB, {readers} readers: {before:.0f} MiB before, {peak:.0f} MiB at the peak, ")
    print(f"{time.monotonic() - start:.1f} s, {reasons}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
