"""store.call tries again what may pass by itself, and nothing else."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fakes import FakeEmbedder
from ports import unused_port
from qdrant_client.client_base import QdrantBase
from small_server import Answer, SmallServer, ok, refusal

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ConfigError, StoreError, StoreUnavailable
from clip_qdrant.store.calls import call
from clip_qdrant.store.connect import connect


def count_once(url: str, *, timeout: int = 5, patience: float = 2.0) -> int:
    client = connect(url, timeout=timeout)
    try:
        return call(lambda: client.count("photos").count, what="count photos", patience=patience)
    finally:
        client.close()


def failing(times: int, answer: Answer) -> Callable[[int], Answer]:
    return lambda number: answer if number < times else ok({"count": 3})


def test_a_server_that_is_busy_twice_is_asked_three_times() -> None:
    with SmallServer(failing(2, (503, b"starting", {}))).running() as server:
        assert count_once(server.url) == 3
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [429, 502, 504])
def test_other_passing_states_are_tried_again_too(status: int) -> None:
    with SmallServer(failing(1, refusal(status, "wait"))).running() as server:
        assert count_once(server.url) == 3
        assert len(server.requests) == 2


def test_the_pause_that_a_server_asks_for_is_kept() -> None:
    with SmallServer(failing(1, (429, {"status": {"error": "slow down"}}, {"Retry-After": "1"}))).running() as server:
        start = time.monotonic()
        assert count_once(server.url) == 3
        assert time.monotonic() - start >= 1
        assert len(server.requests) == 2


def test_a_pause_longer_than_our_patience_is_not_waited_for() -> None:
    answer = (429, {"status": {"error": "slow down"}}, {"Retry-After": "60"})
    with SmallServer(failing(99, answer)).running() as server:
        with pytest.raises(StoreUnavailable, match="slow down"):
            count_once(server.url)
        assert len(server.requests) == 1


@pytest.mark.slow
def test_a_server_that_stays_busy_is_given_up_after_a_few_tries() -> None:
    with SmallServer(failing(99, (503, b"starting", {}))).running() as server:
        with pytest.raises(StoreUnavailable, match=r"count photos: Qdrant is not ready \(503: starting\)"):
            count_once(server.url)
        assert 2 <= len(server.requests) <= 7


def test_more_patience_means_more_tries() -> None:
    with SmallServer(failing(99, (503, b"", {}))).running() as server:
        with pytest.raises(StoreUnavailable):
            count_once(server.url, patience=0.05)
        assert len(server.requests) == 1
        with pytest.raises(StoreUnavailable):
            count_once(server.url, patience=1.0)
        assert len(server.requests) >= 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_api_key_is_reported_at_once(status: int) -> None:
    with SmallServer(failing(99, (status, b"Invalid API key or JWT", {}))).running() as server:
        with pytest.raises(
            StoreUnavailable, match=rf"refused the API key \({status}: Invalid.*set CLIP_QDRANT_API_KEY"
        ):
            count_once(server.url)
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 409, 422, 500])
def test_a_refusal_that_will_not_pass_is_reported_at_once_in_the_words_of_the_server(status: int) -> None:
    with SmallServer(failing(99, refusal(status, "Bad request: limit is odd"))).running() as server:
        with pytest.raises(StoreError, match=f"count photos: Qdrant answered {status}: Bad request: limit is odd"):
            count_once(server.url)
        assert len(server.requests) == 1


@pytest.mark.slow
def test_a_closed_port_is_reported_with_its_address_long_before_a_timeout() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    start = time.monotonic()

    with pytest.raises(StoreUnavailable, match=rf"count photos: Qdrant at {url} cannot be reached.*docker compose up"):
        count_once(url, timeout=120)

    assert time.monotonic() - start < 60


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses the connection")
def test_a_host_that_never_accepts_is_given_up_long_before_a_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]  # the queue holds one or two: later ones get no answer at all
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(address)
            start = time.monotonic()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                count_once(f"http://127.0.0.1:{address[1]}", timeout=120)
            assert time.monotonic() - start < 60
        finally:
            for one in waiting:
                one.close()


def test_a_server_that_does_not_answer_in_time_is_reported_as_slow() -> None:
    finished = threading.Event()

    def hang(_: int) -> Answer:
        finished.wait(120)
        return ok({"count": 0})

    with SmallServer(hang).running() as server:
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            count_once(server.url, timeout=1, patience=0.5)
        assert len(server.requests) == 1
        finished.set()


def test_a_connection_that_breaks_is_tried_again() -> None:
    def broken_once(number: int) -> Answer:
        return (200, b"{", {"content-length": "500"}) if number == 0 else ok({"count": 3})

    with SmallServer(broken_once).running() as server:
        assert count_once(server.url) == 3
        assert len(server.requests) == 2


def test_a_timeout_is_tried_again_while_patience_lasts() -> None:
    finished = threading.Event()

    def hang_once(number: int) -> Answer:
        if number == 0:
            finished.wait(120)
        return ok({"count": 3})

    with SmallServer(hang_once).running() as server:
        assert count_once(server.url, timeout=1, patience=3) == 3
        assert len(server.requests) == 2
        finished.set()


@pytest.mark.slow
def test_a_collection_waits_for_its_store_as_long_as_it_was_told_once_it_is_open() -> None:
    missing = refusal(404, "Not found: Collection `photos` doesn't exist!")

    def busy_for_three_seconds_after_opening(number: int) -> Answer:
        return (503, b"", {}) if 0 < number < 6 else missing  # then tries after pauses of 0.1 to 1.6 s

    with SmallServer(busy_for_three_seconds_after_opening).running() as server:
        client = connect(server.url)
        photos = ImageCollection("photos", FakeEmbedder(), client, patience=6)
        assert not photos.exists()
        assert len(server.requests) == 7
        client.close()


@pytest.mark.slow
def test_opening_gives_up_soon_however_patient_the_collection_is() -> None:
    with SmallServer(lambda number: (503, b"", {})).running() as server:
        client = connect(server.url)
        for patience, tries in ((0, 1), (60, 6)):
            before = len(server.requests)
            with pytest.raises(StoreUnavailable, match="opening collection 'photos'"):
                ImageCollection("photos", FakeEmbedder(), client, patience=patience)
            assert len(server.requests) - before <= tries
        client.close()


@pytest.mark.parametrize("patience", [-1, float("nan"), float("inf"), "2", None])
def test_patience_is_a_number_of_seconds(memory_client: QdrantBase, patience: Any) -> None:
    with pytest.raises(ConfigError, match=f"patience .*{patience}"):
        ImageCollection("photos", FakeEmbedder(), memory_client, patience=patience)


def test_nothing_is_tried_again_once_it_is_to_stop() -> None:
    stop = threading.Event()

    def answer(number: int) -> Answer:
        if number == 1:
            stop.set()
        return 503, b"starting", {}

    with SmallServer(answer).running() as server:
        client = connect(server.url)
        with pytest.raises(StoreUnavailable):  # and not in an hour
            call(lambda: client.count("photos"), what="count photos", patience=3600, stopped=stop.is_set)
        client.close()
        assert len(server.requests) == 2


def test_a_pause_ends_when_it_is_to_stop() -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with SmallServer(lambda _: (429, {"status": {"error": "slow"}}, {"Retry-After": "600"})).running() as server:
        client = connect(server.url)
        with pytest.raises(StoreUnavailable):
            call(lambda: client.count("photos"), what="count photos", patience=3600, stopped=stop.is_set)
        client.close()
