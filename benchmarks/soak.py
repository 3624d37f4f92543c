"""Whether a service that is used for long keeps its memory, its threads and its open files.

    python benchmarks/soak.py                     # ten minutes, eight clients
    python benchmarks/soak.py --minutes 1 --clients 4 --pause 0.1 --points 1000

Clients search, and have texts and images embedded; no two texts are equal. They open new connections, send what is
refused, and go away before they have their answer. The table has a row every so often; the end says what has grown
since the first quarter, when caches are full and everything has run once. It fails (exit code 1) if there are more
threads or files than then, or a fifth more memory, or an answer that was not to be expected.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service import FILL, HEAD, WORKS, image_of, running, text_of

ROWS = 20  # of the table
REOPENED = 0.02  # share of requests after which the connection is opened anew
ABANDONED = 0.02  # share of requests whose answer is not waited for
REFUSED = 0.05  # share of requests that are wrong
WRONG: list[dict[str, Any]] = [{"query": ""}, {"input": [1]}, {"input": "data:image/png;base64,AAAA"}, {}]
MOST_GROWTH = 1.2  # times the memory of the first quarter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of a client between two requests")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where the store is made; the system's, by default")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        print(json.dumps(asyncio.run(load(**json.loads(options.load)))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        subprocess.run([sys.executable, "-c", FILL, folder, str(options.points)], check=True)
        with running("batched", Path(folder)) as (port, pid):
            told, use = watch(pid, port, options)
    sys.exit(report(told, use))


@dataclass(frozen=True)
class Use:
    """What a process has: `memory` in MiB that is resident."""

    seconds: float
    memory: float
    threads: int
    files: int


def watch(pid: int, port: int, options: argparse.Namespace) -> tuple[dict[str, int], list[Use]]:
    """Answers by kind, and what the server has, row after row."""
    seconds = options.minutes * 60
    asked = json.dumps({"port": port, "clients": options.clients, "seconds": seconds, "pause": options.pause})
    start = time.monotonic()
    use: list[Use] = []
    print(f"{'seconds':>8} {'MiB':>8} {'threads':>8} {'files':>6}")
    with subprocess.Popen([sys.executable, __file__, "--load", asked], stdout=subprocess.PIPE) as clients_process:
        while clients_process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                clients_process.wait(seconds / ROWS)
            use.append(look(pid, time.monotonic() - start))
            last = use[-1]
            print(f"{last.seconds:8.0f} {last.memory:8.1f} {last.threads:8} {last.files:6}", flush=True)
        assert clients_process.stdout is not None
        told: dict[str, int] = json.loads(clients_process.stdout.read())
    time.sleep(1)  # connections are closed
    use.append(look(pid, time.monotonic() - start))
    return told, use


def look(pid: int, seconds: float) -> Use:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    threads, files = (sum(1 for _ in Path(f"/proc/{pid}/{name}").iterdir()) for name in ("task", "fd"))
    return Use(seconds, memory, threads, files)


def report(told: dict[str, int], use: list[Use]) -> int:
    first, last = use[: max(1, len(use) // 4)], use[-1]
    memory, threads, files = (max(getattr(one, name) for one in first) for name in ("memory", "threads", "files"))
    print(", ".join(f"{name}: {number}" for name, number in sorted(told.items())))
    print(f"memory {memory:.0f} -> {last.memory:.0f} MiB")
    print(f"threads {threads} -> {last.threads}, files {files} -> {last.files}")
    grown = last.memory > MOST_GROWTH * memory or last.threads > threads or last.files > files
    return int(grown or told.get("unexpected", 0) > 0)


async def load(port: int, clients: int, seconds: float, pause: float) -> dict[str, int]:
    """Asks for so long; how often what was answered."""
    end, numbers, told = time.monotonic() + seconds, itertools.count(), Counter[str]()
    images = [image_of(number) for number in range(64)]

    async def use() -> None:
        while time.monotonic() < end:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while time.monotonic() < end and random.random() >= REOPENED:
                    if not await ask(reader, writer):
                        break
                    await asyncio.sleep(pause)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request. False if its answer was not waited for."""
        number = next(numbers)
        work = random.choice([*WORKS])
        content: dict[str, Any] = {"input": random.choice(images) if work == "images" else text_of(number)}
        if work == "search":
            content = {"query": text_of(number)}
        wrong = random.random() < REFUSED
        if wrong:
            content = random.choice(WRONG)
        body = json.dumps(content).encode()
        writer.write(HEAD % (WORKS[work].encode(), len(body)) + body)
        if random.random() < ABANDONED:
            await writer.drain()
            await asyncio.sleep(random.random() * 0.02)
            told["abandoned"] += 1
            return False
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
        status = int(head.split(b" ", 2)[1])
        expected = 200 <= status < 500 if wrong else status == 200
        told[(work if status == 200 else "refused") if expected else "unexpected"] += 1
        return True

    await asyncio.gather(*[use() for _ in range(clients)])
    return dict(told)


if __name__ == "__main__":
    main()
