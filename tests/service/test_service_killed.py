"""kill -9 in the middle of writes: what was answered is in the store when the service runs again."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from embedding_clients import png
from forks import PROGRAM, Fork, start_fork

FAKE = """
from clip_qdrant.cli import wiring
from fakes import FakeEmbedder
wiring.open_embedder = lambda _: FakeEmbedder()
"""
IMAGE = base64.b64encode(png("red", (8, 8))).decode()
WRITERS, ROUNDS = 3, 2


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[Fork, str]]:
    """The program in a process of its own, with a fake embedder, and where it answers."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}
    fork = start_fork(FAKE + PROGRAM, "serve", "--port", "0", cwd=folder, env=env)
    try:
        url = fork.stdout.readline().split()[-1]
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/readyz", timeout=60).status_code == 200:
                    break
            time.sleep(0.02)
        yield fork, url
    finally:
        fork.kill()
        fork.communicate()


def add_until_it_is_gone(url: str, names: Iterator[str], answered: list[str], lock: threading.Lock) -> None:
    """Adds one image after the other; `answered` are the uris of those that the service has said to be stored."""
    with httpx.Client(base_url=url, timeout=60) as http, contextlib.suppress(httpx.TransportError):
        while True:
            with lock:
                name = next(names)
            body = {"points": [{"uri": name, "image": IMAGE, "metadata": {"name": name}}]}
            answer = http.post("/v1/points", json=body)
            assert answer.status_code == 200, answer.text
            with lock:
                answered.append(name)


def test_no_write_that_was_answered_is_lost(tmp_path: Path) -> None:
    names = iter(f"urn:x:{number}" for number in range(100_000))
    answered: list[str] = []
    lock = threading.Lock()
    for round_number in range(ROUNDS):
        with served(tmp_path) as (fork, url):
            writers = [
                threading.Thread(target=add_until_it_is_gone, args=(url, names, answered, lock)) for _ in range(WRITERS)
            ]
            for writer in writers:
                writer.start()
            enough = len(answered) + 40 + 13 * round_number
            while len(answered) < enough:
                time.sleep(0.002)
            fork.kill()  # SIGKILL, while the next writes are under way
            for writer in writers:
                writer.join()

    with served(tmp_path) as (_fork, url):
        found = httpx.post(f"{url}/v1/search", json={"limit": 1000}, timeout=60).json()["hits"]
        again = httpx.post(f"{url}/v1/points", json={"points": [{"uri": answered[0], "image": IMAGE}]}, timeout=60)

    stored = {hit["uri"] for hit in found}
    assert len(answered) >= 80
    assert set(answered) <= stored
    assert len(stored) - len(answered) <= WRITERS * ROUNDS  # those that were stored and not answered any more
    assert again.json()["unchanged"] == 1
