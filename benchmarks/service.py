"""How many requests a service answers, and how long they take: searches by text, texts and images embedded.

    python benchmarks/service.py                                 # 10,000 points; 1, 8 and 32 clients
    python benchmarks/service.py --clients 32 --rounds 10 --only search
    python benchmarks/service.py --peer                          # and sentence-transformers behind a plain FastAPI app

Each server is a process of its own, and so are the clients, which ask again as soon as they have an answer. No two
texts are equal, so that nothing comes out of a cache. "one by one" is the same service, which embeds
what each request wants by itself. The peer has a text encoder of the same size as the bundled model's (6 layers of
384, MiniLM), its weights made up, and the tokenizer of the bundled model. The servers take turns, second by second, so
that what else the computer does falls on all alike. "CPU" is what a server used for one request, in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip_qdrant.embedder import ClipEmbedder
    from clip_qdrant.service.state import Service

COLLECTION, BATCH = "benchmark", 1000
MODEL = "CLIP_QDRANT_MODEL"  # by which the servers are told, if it is not the bundled one
SIDE = 256  # pixels of the images that are embedded
KINDS = ("batched", "one by one", "sentence-transformers")
WORKS = {"search": "/v1/search", "texts": "/v1/embeddings", "images": "/v1/embeddings"}
WORDS = (
    *("red", "green", "blue", "yellow", "black", "white", "old", "young", "wet", "dry", "small", "big", "happy"),
    *("dog", "cat", "horse", "bird", "child", "woman", "man", "boat", "car", "bicycle", "tree", "house", "ball"),
    *("runs", "sleeps", "jumps", "swims", "eats", "plays", "beach", "river", "street", "field", "snow", "grass"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=5, help="for each row of the table")
    parser.add_argument("--only", choices=WORKS, help="this work alone")
    parser.add_argument("--model", help="in place of the bundled one, as ClipEmbedder.load takes it")
    parser.add_argument("--peer", action="store_true", help="sentence-transformers too, which has to be installed")
    parser.add_argument("--folder", type=Path, help="where the store is made; the system's, by default")
    parser.add_argument("--serve", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder, int(os.environ["PORT"]))
    elif options.load:
        print(json.dumps(asyncio.run(load(**json.loads(options.load)))))
    else:
        if options.model:
            os.environ[MODEL] = options.model
        compare(options)


def compare(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = ("work", "clients", "server", "requests/s", "p50 ms", "p99 ms", "CPU ms", "errors")
    table = Table(*columns, title=f"{options.points:,} points, {os.cpu_count()} cores")
    kinds = KINDS if options.peer else KINDS[:2]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, contextlib.ExitStack() as servers:
        first = Path(folder) / "store"
        subprocess.run([sys.executable, "-c", FILL, str(first), str(options.points)], check=True)
        running_servers = {}
        for number, kind in enumerate(kinds):
            store = Path(folder) / str(number)  # an embedded store is one server's
            if kind != "sentence-transformers":
                shutil.copytree(first, store)
            running_servers[kind] = servers.enter_context(running(kind, store))
        for work in [options.only] if options.only else WORKS:
            asked = [kind for kind in kinds if kind != "sentence-transformers" or work == "texts"]
            for clients in options.clients:
                measured = {kind: Measured() for kind in asked}
                for _ in range(options.rounds):
                    for kind, total in measured.items():
                        port, pid = running_servers[kind]
                        total.add(*measure(work, port, pid, clients, options.seconds))
                for kind, total in measured.items():
                    print(work, clients, kind, *total.row(), flush=True)
                    table.add_row(work, str(clients), kind, *total.row())
    Console(width=120).print(table)


@dataclass
class Measured:
    """What the rounds of one server came to."""

    times: list[float] = field(default_factory=list)  # seconds of each request that counts
    seconds: float = 0.0
    cpu: float = 0.0
    requests: int = 0
    errors: int = 0

    def add(self, told: dict[str, Any], cpu: float) -> None:
        self.times += told["times"]
        self.seconds += told["seconds"]
        self.cpu += cpu
        self.requests += len(told["times"]) + told["warm_up"]
        self.errors += told["errors"]

    def row(self) -> tuple[str, ...]:
        """Requests a second, milliseconds at the 50th and the 99th percentile, of CPU for each, errors."""
        times = sorted(self.times)
        if not times:
            return ("0", "", "", "", str(self.errors))
        p50, p99 = times[len(times) // 2], times[min(len(times) - 1, int(len(times) * 0.99))]
        rate, each = len(times) / self.seconds, self.cpu / self.requests
        return f"{rate:.0f}", f"{1000 * p50:.1f}", f"{1000 * p99:.1f}", f"{1000 * each:.2f}", str(self.errors)


FILL = """
import sys
sys.path.insert(0, "benchmarks")
import service
service.fill(sys.argv[1], int(sys.argv[2]))
"""


def fill(folder: str, points: int) -> None:
    """A collection of made-up vectors, with its index, as `clip-qdrant optimize` makes it."""
    import numpy as np

    from clip_qdrant import ImageCollection
    from clip_qdrant.records import ImageInfo, ImageRecord
    from clip_qdrant.store.edge.client import EdgeClient

    with EdgeClient(folder) as client:
        embedder = open_embedder()
        images = ImageCollection(COLLECTION, embedder, client, fields={"year": "integer"})
        draw = np.random.default_rng(0)
        for start in range(0, points, BATCH):
            numbers = range(start, min(start + BATCH, points))
            vectors = draw.normal(size=(len(numbers), embedder.dim)).astype(np.float32)
            info = [ImageInfo(640, 480, "JPEG", 50_000, f"{number:064x}", "0" * 16) for number in numbers]
            records = [
                ImageRecord(
                    f"urn:x:{number}", caption=text_of(number), metadata={"year": 2000 + number % 25}, image=one
                )
                for number, one in zip(numbers, info, strict=True)
            ]
            images.writer.write(records, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        client.optimize(COLLECTION)


def open_embedder() -> ClipEmbedder:
    from clip_qdrant import ClipEmbedder

    return ClipEmbedder.load(os.environ.get(MODEL, "bundled"))


@contextlib.contextmanager
def running(kind: str, folder: Path) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and the id of the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", kind, "--folder", str(folder)]
    server = subprocess.Popen(command, env={**os.environ, "PORT": str(port)})
    try:
        path = "/readyz" if kind != "sentence-transformers" else "/openapi.json"
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the server ({kind}) did not start") from None
                time.sleep(0.1)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait()


def serve(kind: str, folder: Path, port: int) -> None:
    import uvicorn

    from clip_qdrant.service.server import listen, run_server

    if kind == "sentence-transformers":
        uvicorn.run(make_peer(), host="127.0.0.1", port=port, log_config=None, access_log=False)
    else:
        run_server(make_service(kind, folder), listen("127.0.0.1", port), drain=0.0)


def make_service(kind: str, folder: Path) -> Service:
    from clip_qdrant import connect
    from clip_qdrant.service.batching.options import BatchingOptions
    from clip_qdrant.service.open_collections import OpenCollections
    from clip_qdrant.service.options import ServiceOptions
    from clip_qdrant.service.state import Service

    client, embedder = connect(folder), open_embedder()
    if kind == "batched":
        return Service(client, embedder, ServiceOptions(collection=COLLECTION))
    alone = BatchingOptions(texts_in_batch=1, images_in_batch=1, gathering=0.0, cached_texts=0)
    service = Service(client, embedder, ServiceOptions(collection=COLLECTION, batching=alone))
    # A search embeds its text in its own thread.
    service.collections = OpenCollections(client, embedder, service.options)
    return service


def make_peer() -> Any:
    """What people write who have no batching: a function of FastAPI that calls the model."""
    from fastapi import Body, FastAPI
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    embedder = open_embedder()
    folder = tempfile.mkdtemp()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=embedder._tokenize._tokenizer, pad_token="[PAD]", model_max_length=128
    )
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
    )
    BertModel(config).save_pretrained(folder)
    words = Transformer(folder, max_seq_length=128)
    model = SentenceTransformer(modules=[words, Pooling(384, "mean")], device="cpu")
    app = FastAPI()

    @app.post("/v1/embeddings")
    def embed(input: str = Body(embed=True)) -> Any:  # what OpenAI's interface calls it
        return {"data": [{"embedding": model.encode([input], normalize_embeddings=True)[0].tolist()}]}

    return app


def measure(work: str, port: int, pid: int, clients: int, seconds: float) -> tuple[dict[str, Any], float]:
    """What `load` tells, and the seconds of CPU that the server used."""
    asked = {"work": work, "port": port, "clients": clients, "seconds": seconds, "seed": random.randrange(1 << 30)}
    before = cpu_seconds(pid)
    done = subprocess.run([sys.executable, __file__, "--load", json.dumps(asked)], capture_output=True, check=True)
    return json.loads(done.stdout), cpu_seconds(pid) - before


def cpu_seconds(pid: int) -> float:
    """What a process has used, all its threads; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(work: str, port: int, clients: int, seconds: float, seed: int) -> dict[str, Any]:
    """Asks from so many connections at once; the first fifth of a second does not count."""
    bodies, times, errors, warm_up = make_bodies(work, seed), list[float](), 0, 0
    start = time.perf_counter() + 0.2
    end = start + seconds

    async def ask() -> None:
        nonlocal errors, warm_up
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < end:
            body = next(bodies)
            writer.write(HEAD % (WORKS[work].encode(), len(body)) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                errors += 1
            elif began >= start:
                times.append(time.perf_counter() - began)
            else:
                warm_up += 1
        writer.close()

    await asyncio.gather(*[ask() for _ in range(clients)])
    return {"times": times, "errors": errors, "warm_up": warm_up, "seconds": time.perf_counter() - start}


HEAD = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def make_bodies(work: str, seed: int) -> Iterator[bytes]:
    """Requests, of which no two are equal, or 64 images."""
    if work == "images":  # made before, which takes longer than embedding; images are kept nowhere
        made = [json.dumps({"input": image_of(seed + number)}).encode() for number in range(64)]
        return itertools.cycle(made)
    texts = map(text_of, itertools.count(seed))
    if work == "texts":
        return (json.dumps({"input": text}).encode() for text in texts)
    return (json.dumps({"query": text, "limit": 10}).encode() for text in texts)


def text_of(number: int) -> str:
    """Five words, as people search; hardly ever the same for two numbers."""
    return " ".join(random.Random(number).choices(WORDS, k=5))


def image_of(number: int) -> str:
    """The data URL of a JPEG."""
    import base64
    import io

    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG")
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


if __name__ == "__main__":
    main()
