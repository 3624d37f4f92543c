"""Searches of many callers at once share the encoder; when too many wait, the client comes again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes import FakeEmbedder
from served_photos import NAME, add_photos, png

from clip_qdrant import errors
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.embedder_protocol import Embedder
from clip_qdrant.service import Client
from clip_qdrant.service.batching.options import BatchingOptions
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service

TOGETHER = 6


class GatedEmbedder(FakeEmbedder):
    """Embeds while `gate` is open; `waits` says that something waits there."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waits = threading.Event(), threading.Event()
        self.gate.set()

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        self.waits.set()
        assert self.gate.wait(30)
        return super().embed_texts(texts)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.waits.set()
        assert self.gate.wait(30)
        return super().embed_pixels(pixels)

    def close_gate(self) -> None:
        self.gate.clear()
        self.waits.clear()


@pytest.fixture(scope="module")
def embedder() -> GatedEmbedder:
    return GatedEmbedder()


@pytest.fixture(scope="module")
def options() -> ServiceOptions:
    batching = BatchingOptions(gathering=0.05)
    return ServiceOptions(collection=NAME, threads=TOGETHER, waiting=0, retry_after=1, batching=batching)


@pytest.fixture(scope="module")
def photos(service: Service, embedder: Embedder) -> ImageCollection:
    return add_photos(service.client, embedder)


@pytest.fixture
def client(url: str, photos: ImageCollection) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_texts_of_searches_at_once_are_embedded_together(
    client: Client, photos: ImageCollection, service: Service, embedder: GatedEmbedder
) -> None:
    texts = [f"red {number}" for number in range(TOGETHER)]
    embedder.close_gate()
    with ThreadPoolExecutor(TOGETHER) as pool:
        first = pool.submit(client.search, "blue first")
        assert embedder.waits.wait(30)
        others = [pool.submit(client.search, text) for text in texts[1:]]
        wait_until(lambda: service.embedder.figures.texts_waiting >= len(others))
        before = len(embedder.text_calls)
        embedder.gate.set()
        found = [each.result(30) for each in others]

    assert len(embedder.text_calls) - before < TOGETHER
    assert first.result() == photos.search("blue first")
    assert found == [photos.search(text) for text in texts[1:]]


def test_a_client_comes_again_when_all_threads_are_busy(
    url: str, client: Client, photos: ImageCollection, service: Service, embedder: GatedEmbedder
) -> None:
    embedder.close_gate()
    with ThreadPoolExecutor(TOGETHER + 1) as pool:
        running = [pool.submit(client.search, png((number, 0, 90))) for number in range(TOGETHER)]
        wait_until(lambda: service.threads.running == TOGETHER)
        with Client(url, patience=0) as hasty, pytest.raises(errors.Overloaded, match="ask again"):
            hasty.search(png("red"))
        patient = pool.submit(client.search, png("magenta"))
        time.sleep(0.05)
        embedder.gate.set()

        assert patient.result(30) == photos.search(png("magenta"))
        assert all(each.result(30) for each in running)
