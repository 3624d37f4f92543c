"""An embedded store can be searched by other programs while images come in: in watch mode, and during one run."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, write_image
from forks import run_fork
from program import Program, program_in
from store_user import StoreUser

from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.process.address import StoreAddress

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself SIGTERM there")

SEARCH = """
import sys
from fakes import FakeEmbedder
from clip_qdrant.cli import run, wiring
wiring.open_embedder = lambda _: FakeEmbedder()
sys.exit(run(["search", "red", "--json"]))
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


def search(folder: Path) -> list[str]:
    """The names of what the command line finds, in a process of its own."""
    code, out, errors = run_fork(SEARCH, cwd=folder)
    assert code == 0, errors
    return [Path(hit["uri"]).name for hit in json.loads(out)["hits"]]


@pytest.mark.slow
def test_a_store_that_a_watch_fills_is_searched_from_the_command_line(program: Program) -> None:
    write_image(program.folder / "photos" / "red.png", "red")
    store, found, answered_by = program.folder / "qdrant-data", [], []

    def look() -> None:
        try:
            while (address := StoreAddress.read(store)) is None:
                time.sleep(0.05)
            answered_by.append(address.pid)
            client = connect(store)
            while not client.collection_exists("images") or not client.count("images").count:
                time.sleep(0.05)
            found.append(search(program.folder))
            write_image(program.folder / "photos" / "blue.png", "blue")
            while client.count("images").count < 2:
                time.sleep(0.05)
            client.close()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()
    outcome = program("ingest", "photos", "--watch", "--json")
    assert outcome.code == 143, outcome.err
    assert found == [["red.png"]]
    assert answered_by != [os.getpid()]
    with EdgeClient(store) as alone:  # nobody else has it open any more
        assert alone.count("images").count == 2


class LookedAtMeanwhile(FakeEmbedder):
    """Has another process count the images that are stored, before it embeds the last batches."""

    def __init__(self, store: Path) -> None:
        super().__init__()
        self._store, self._batches = store, 0
        self.counts: list[int] = []

    def embed_pixels(self, pixels: np.ndarray) -> Any:
        self._batches += 1
        if self._batches == 4:
            user = StoreUser.start(self._store)
            while not user.call("collection_exists", "images") or not (n := user.call("count", "images").count):
                time.sleep(0.02)
            self.counts.append(n)
            user.end()
        return super().embed_pixels(pixels)


def test_a_store_is_looked_at_while_one_long_run_fills_it(program: Program) -> None:
    for number in range(12):
        write_image(program.folder / "photos" / f"{number}.png", (number * 20, 0, 0))
    program.embedder = LookedAtMeanwhile(program.folder / "qdrant-data")
    outcome = program("ingest", "photos", "--json", "--batch-size", "2", "--workers", "1")
    assert (outcome.code, outcome.json["added"]) == (0, 12), outcome.err
    [count] = program.embedder.counts
    assert 1 <= count < 12
    with EdgeClient(program.folder / "qdrant-data") as alone:
        assert alone.count("images").count == 12
