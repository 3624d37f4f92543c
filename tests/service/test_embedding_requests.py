"""Keys, a full queue, and clients that go away: the same for every embedding endpoint, in the shape of each."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from fakes import FakeEmbedder, solid_image
from running_service import run_app

from clip_qdrant import ImageCollection
from clip_qdrant.service.app import create_app
from clip_qdrant.service.batching.options import BatchingOptions
from clip_qdrant.service.keys.key import ApiKey
from clip_qdrant.service.keys.ring import KeyRing
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect

KEY = "a key of sixteen characters"
# One request of each protocol that has the texts given, and where its answer has the message of an error.
REQUESTS: dict[str, tuple[Callable[[list[str]], Any], Callable[[Any], str]]] = {
    "/v1/embeddings": (lambda texts: {"input": texts}, lambda told: told["error"]["message"]),
    "/v2/embed": (lambda texts: {"texts": texts}, lambda told: told["message"]),
    "/v1/multimodalembeddings": (
        lambda texts: {"inputs": [{"content": [{"type": "text", "text": text}]} for text in texts]},
        lambda told: told["detail"],
    ),
    "/inference": (
        lambda texts: {"inputs": [{"data": text, "data_type": "text", "model": "clip-qdrant"} for text in texts]},
        lambda told: told["error"],
    ),
}


class BusyEmbedder(FakeEmbedder):
    """Holds the text "hold" until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.started = threading.Event()

    def embed_texts(self, texts: Iterable[str]) -> np.ndarray:
        wanted = list(texts)
        if "hold" in wanted:
            self.started.set()
            assert self.go.wait(20)
        return super().embed_texts(wanted)


@contextlib.contextmanager
def busy_service() -> Iterator[tuple[str, Service, BusyEmbedder]]:
    """A service whose encoder has something to do until the context ends; ten texts more may wait."""
    embedder = BusyEmbedder()
    options = ServiceOptions(threads=1, batching=BatchingOptions(most_texts=10))
    service = Service(connect(":memory:"), embedder, options)
    with run_app(create_app(service)) as url, ThreadPoolExecutor(1) as pool:
        eventually(lambda: service.state == "ready")
        pool.submit(httpx.post, f"{url}/v1/embeddings", json={"input": "hold"})
        assert embedder.started.wait(20)
        try:
            yield url, service, embedder
        finally:
            embedder.go.set()


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_full_queue_answers_503_and_a_qdrant_server_429_with_a_time_to_come_back() -> None:
    with busy_service() as (url, service, _embedder), ThreadPoolExecutor(1) as pool:
        pool.submit(httpx.post, f"{url}/v1/embeddings", json={"input": [f"text {number}" for number in range(10)]})
        eventually(lambda: service.embedder.figures.texts_waiting == 10)
        for path, (write, read) in REQUESTS.items():
            answer = httpx.post(url + path, json=write(["one more"]), timeout=60)

            assert answer.status_code == (429 if path == "/inference" else 503)
            assert int(answer.headers["retry-after"]) >= 1
            assert "10 texts wait for the encoder, and 10 may" in read(answer.json())
        _embedder.go.set()


def test_what_a_client_wanted_that_has_gone_leaves_the_queue() -> None:
    with busy_service() as (url, service, embedder):
        calls = len(embedder.text_calls)
        body = b'{"input": ["not", "wanted", "any", "more"]}'
        address = urlsplit(url)
        with socket.create_connection((str(address.hostname), int(address.port or 0))) as connection:
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            eventually(lambda: service.embedder.figures.texts_waiting == 4)
        eventually(lambda: service.embedder.figures.texts_waiting == 0)
        embedder.go.set()
        assert httpx.post(f"{url}/v1/embeddings", json={"input": "next"}, timeout=60).status_code == 200

    assert embedder.text_calls[calls:] == [1, 1]  # of "hold" and "next"


def test_texts_of_searches_that_come_at_once_are_one_batch_however_few_the_threads_are() -> None:
    with busy_service() as (url, service, embedder), ThreadPoolExecutor(9) as pool:
        ImageCollection("images", FakeEmbedder(), service.client).add([solid_image("red")], uris=["urn:x:red"])
        calls = len(embedder.text_calls)
        searches = [{"query": f"text {number}"} for number in range(5)]
        composed: dict[str, Any] = {"query": [{"text": "a dress"}, {"text": "as it is", "raw": True}, "red"]}
        batch: dict[str, Any] = {"queries": ["one", "two"]}
        asked = [("search", one) for one in (*searches, composed)] + [("search/batch", batch)]
        answers = [pool.submit(httpx.post, f"{url}/v1/{path}", json=body) for path, body in asked]
        eventually(lambda: service.embedder.figures.texts_waiting == 9)
        embedder.go.set()

        assert [answer.result().status_code for answer in answers] == [200] * 7
    assert embedder.text_calls[calls:][:2] == [1, 9]


def test_every_endpoint_asks_for_a_key_and_a_qdrant_server_sends_it_in_the_body() -> None:
    keys = KeyRing({KEY: ApiKey(name="reader", scopes=frozenset({"read"}))})
    with run_app(create_app(Service(connect(":memory:"), FakeEmbedder(), keys=keys))) as url:
        for path, (write, read) in REQUESTS.items():
            refused = httpx.post(url + path, json=write(["red"]), timeout=60)
            allowed = httpx.post(
                url + path, json=write(["red"]), headers={"Authorization": f"Bearer {KEY}"}, timeout=60
            )

            assert (refused.status_code, allowed.status_code) == (401, 200)
            assert "this service asks for a key" in read(refused.json())
        by_token = httpx.post(f"{url}/inference", json={**REQUESTS["/inference"][0](["red"]), "token": KEY}, timeout=60)
        wrong = httpx.post(
            f"{url}/inference", json={**REQUESTS["/inference"][0](["red"]), "token": "another"}, timeout=60
        )
        probe = httpx.get(f"{url}/ping", timeout=60)

    assert (by_token.status_code, wrong.status_code, probe.text) == (200, 401, "pong")
