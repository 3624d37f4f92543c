"""A store or a bucket that is away for a while, or fails now and then, costs that while and nothing else."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from edge_server import EdgeServer
from fakes import FakeEmbedder, MadeSource
from ingest_process import IMAGES, assert_same, change, contents, make_images, run
from PIL import Image
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from s3 import Bucket, FlakyProxy, new_bucket

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import SourceUnavailable, StoreUnavailable
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import BucketSource, Report, ingest


def opened(client: Any, *, patience: float = 60.0, embedder: FakeEmbedder | None = None) -> ImageCollection:
    return ImageCollection("photos", embedder or FakeEmbedder(), client, patience=patience)


def counts(report: Report) -> dict[str, int]:
    names = ("added", "updated", "renamed", "payload_updated", "skipped", "deleted")
    found = {name: getattr(report, name) for name in names} | {"quarantined": len(report.quarantined)}
    return {name: count for name, count in found.items() if count}


# What `change` does to a sixth of the images each.
SIXTH = IMAGES // 6
CHANGED = {"updated": SIXTH, "renamed": SIXTH, "payload_updated": 3 * SIXTH, "deleted": 2 * SIXTH}


class _Killing(FakeEmbedder):
    """Has the server killed at some of its batches, and started again a while after."""

    def __init__(self, server: EdgeServer, at: set[int], seconds: float) -> None:
        super().__init__()
        self._server, self._at, self._seconds = server, at, seconds
        self._lock = threading.Lock()
        self._batches = 0
        self._restarts: list[threading.Timer] = []

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        with self._lock:
            self._batches += 1
            if self._batches in self._at:
                self.wait()
                self._server.kill()
                self._restarts.append(threading.Timer(self._seconds, self._server.restart))
                self._restarts[-1].start()
        return super().embed_pixels(pixels)

    def wait(self) -> int:
        """Waits until the server is there again; gives how often it was killed."""
        for restart in self._restarts:
            restart.join()
        return len(self._restarts)


@pytest.mark.slow
def test_a_server_that_is_killed_and_restarted_in_the_middle_of_a_run_costs_only_the_time(
    tmp_path: Path, edge_server: EdgeServer
) -> None:
    embedder = _Killing(edge_server, {3, 7, 12}, 0.5)
    report = ingest(MadeSource(120), opened(connect(edge_server.url), embedder=embedder), batch_size=6)
    assert embedder.wait() == 3
    assert counts(report) == {"added": 120}
    with EdgeClient(tmp_path / "undisturbed") as undisturbed:
        ingest(MadeSource(120), opened(undisturbed))
        assert_same(contents(connect(edge_server.url)), contents(undisturbed))


@pytest.mark.slow
@pytest.mark.usefixtures("brief_pauses")
def test_a_server_that_fails_a_fifth_of_the_requests_gets_the_same_collection(
    tmp_path: Path, edge_server: EdgeServer
) -> None:
    photos = make_images(tmp_path / "photos")
    edge_server.fail_share = 0.2
    edge_server.restart()
    client = connect(edge_server.url)
    assert counts(run(photos, opened(client))) == {"added": IMAGES}
    change(photos)
    assert counts(run(photos, opened(client))) == CHANGED
    edge_server.fail_share = 0.0
    edge_server.restart()
    with EdgeClient(tmp_path / "undisturbed") as undisturbed:
        run(photos, opened(undisturbed))
        assert_same(contents(client), contents(undisturbed))


class _Faulty:
    """Passes calls on to a real client, and has a share of them fail as over a bad network, before or after the work.

    While `away` says so all of them fail, before.
    """

    def __init__(self, client: Any, share: float = 0.0, *, seed: int = 0) -> None:
        self._client, self._share, self._random = client, share, random.Random(seed)
        self._lock = threading.Lock()
        self.away: Callable[[], bool] = lambda: False
        self.calls: Counter[str] = Counter()
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name.startswith("_") or not callable(attribute):
            return attribute

        def called(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self.calls[name] += 1
                fails = self._random.random() < self._share
                error, after = self._random.choice(_FAULTS), self._random.random() < 0.5
            if self.away():
                raise ResponseHandlingException(httpx.ConnectError("connection refused"))
            if fails and not after:
                raise self._failing(error)
            result = attribute(*args, **kwargs)
            if fails:
                raise self._failing(error)
            return result

        return called

    def _failing(self, error: Exception) -> Exception:
        with self._lock:
            self.failed += 1
        return error


_FAULTS: list[Exception] = [
    ResponseHandlingException(httpx.ConnectError("connection refused")),
    ResponseHandlingException(httpx.ReadTimeout("timed out")),
    ResponseHandlingException(httpx.RemoteProtocolError("server disconnected without sending a response")),
    UnexpectedResponse(503, "Service Unavailable", b"starting", httpx.Headers()),
    httpx.ReadError("connection reset by peer"),
]


@pytest.mark.slow
@pytest.mark.usefixtures("brief_pauses")
@pytest.mark.parametrize("kind", ["edge", "memory"])
def test_a_client_whose_calls_fail_at_random_gets_the_same_collection(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    client = request.getfixturevalue(f"{kind}_client")
    photos = make_images(tmp_path / "photos")
    faulty = _Faulty(client, 0.12)
    assert counts(run(photos, opened(faulty))) == {"added": IMAGES}
    change(photos)
    assert counts(run(photos, opened(faulty))) == CHANGED
    assert faulty.failed > 5
    found = contents(client)
    client.delete_collection("photos")
    run(photos, opened(client))
    assert_same(found, contents(client))


@pytest.mark.slow
def test_an_outage_longer_than_the_patience_ends_the_run_and_the_next_goes_on(memory_client: QdrantBase) -> None:
    client = _Faulty(memory_client)
    client.away = lambda: client.calls["upsert"] > 3
    with pytest.raises(StoreUnavailable, match=r"connection refused.*\d+ images of this run are stored, run it again"):
        ingest(MadeSource(60), opened(client, patience=0.5), batch_size=4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ingest-")]
    stored = memory_client.count("photos").count
    assert 0 < stored < 60
    client.away = lambda: False
    assert counts(ingest(MadeSource(60), opened(client))) == {"added": 60 - stored, "skipped": stored}


class _Clock:
    """The module `time`, with a time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
        time.sleep(0.001)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.mark.slow
def test_an_outage_of_two_minutes_costs_two_minutes(memory_client: QdrantBase, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr("tenacity.time", clock)
    monkeypatch.setattr("tenacity.nap.time", clock)
    monkeypatch.setattr("clip_qdrant.store.calls.time", clock)
    client = _Faulty(memory_client)
    client.away = lambda: client.calls["upsert"] > 3 and clock.now < 120
    report = ingest(MadeSource(60), opened(client, patience=300), batch_size=4)
    assert counts(report) == {"added": 60}
    assert 120 <= clock.now < 150  # each of the threads that wait adds its last pause, of 5 seconds at most
    assert memory_client.count("photos").count == 60


# Buckets


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return new_bucket(monkeypatch)


def fill(bucket: Bucket, number: int) -> dict[str, str]:
    """Puts images that no half of is one; gives the sha256 of each by uri."""
    hashes = {}
    for index in range(number):
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(file, "PNG")
        bucket.put(f"{index % 2}/{index:03}.png", file.getvalue())
        hashes[f"{bucket.url}/{index % 2}/{index:03}.png"] = hashlib.sha256(file.getvalue()).hexdigest()
    return hashes


def through(proxy: FlakyProxy, bucket: Bucket) -> BucketSource:
    return BucketSource(bucket.url, storage_options={"endpoint_url": proxy.url})


@pytest.mark.slow
@pytest.mark.usefixtures("brief_pauses")
def test_a_bucket_that_fails_and_cuts_answers_loses_no_image(bucket: Bucket, memory_client: QdrantBase) -> None:
    hashes = fill(bucket, 100)
    with FlakyProxy(bucket.endpoint, fail_share=0.05, cut_share=0.05).running() as proxy:
        report = ingest(through(proxy, bucket), opened(memory_client))
        assert counts(report) == {"added": 100}
        assert proxy.failed > 3
        assert proxy.cut > 3
    stored = {payload["uri"]: payload["image"]["sha256"] for payload in opened(memory_client).writer.scan()}
    assert stored == hashes


@pytest.mark.slow
def test_the_latency_of_a_bucket_is_hidden_by_reading_many_at_once(bucket: Bucket, memory_client: QdrantBase) -> None:
    fill(bucket, 40)
    with FlakyProxy(bucket.endpoint, latency=0.1).running() as proxy:
        assert counts(ingest(through(proxy, bucket), opened(memory_client))) == {"added": 40}
        assert proxy.most_at_once > 8


@pytest.mark.slow
def test_a_bucket_that_goes_away_in_the_middle_ends_the_run_and_the_next_goes_on(
    bucket: Bucket, memory_client: QdrantBase
) -> None:
    fill(bucket, 100)
    with FlakyProxy(bucket.endpoint).running() as proxy:

        class Ending(FakeEmbedder):
            def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
                proxy.down = True
                return super().embed_pixels(pixels)

        with pytest.raises(SourceUnavailable, match=r"reads in a row failed"):
            ingest(
                through(proxy, bucket), opened(memory_client, embedder=Ending()), batch_size=2, readers=2, patience=0
            )
        proxy.down = False
        report = ingest(through(proxy, bucket), opened(memory_client))
    assert report.quarantined == ()
    assert memory_client.count("photos").count == 100
