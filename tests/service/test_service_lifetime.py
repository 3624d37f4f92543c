"""A request ends at its deadline, or when its caller goes; what fails is told as a problem."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from fakes import FakeEmbedder
from fastapi import FastAPI, Request
from running_service import run_app

from clip_qdrant.errors import FilterError
from clip_qdrant.service.app import create_app
from clip_qdrant.service.http.lifetime import current_lifetime
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.service.threads import run_blocking
from clip_qdrant.store.edge.client import EdgeClient


class Doings:
    """What the handlers of these tests did."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.done = 0


@pytest.fixture(scope="module")
def doings() -> Doings:
    return Doings()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, doings: Doings) -> Iterator[str]:
    yield from serve(tmp_path_factory, doings, deadline=1.0)


@pytest.fixture(scope="module")
def patient_url(tmp_path_factory: pytest.TempPathFactory, doings: Doings) -> Iterator[str]:
    """Of a service that gives a request an hour."""
    yield from serve(tmp_path_factory, doings, deadline=3600)


def serve(tmp_path_factory: pytest.TempPathFactory, doings: Doings, *, deadline: float) -> Iterator[str]:
    options = ServiceOptions(deadline=deadline, threads=1, waiting=1, retry_after=7)
    with contextlib.closing(EdgeClient(tmp_path_factory.mktemp("store"))) as client:
        app = create_app(Service(client, FakeEmbedder(), options))
        add_routes(app, doings)
        with run_app(app) as url:
            yield url


def add_routes(app: FastAPI, doings: Doings) -> None:
    def block() -> float:
        doings.begun.set()
        doings.gate.wait(10)
        doings.done += 1
        lifetime = current_lifetime()
        assert lifetime is not None
        return lifetime.time_left()

    @app.get("/block")
    async def block_in_a_thread() -> float:
        return await run_blocking(block)

    @app.post("/wait")
    async def wait() -> None:
        doings.begun.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            doings.cancelled.set()
            raise

    @app.post("/read-and-wait")
    async def read_and_wait(request: Request) -> None:
        assert await request.body() == b"{}"
        await wait()

    @app.get("/filter")
    async def refuse_filter() -> None:
        raise FilterError("no field 'x' at https://me:word@host/", column=3)

    @app.get("/bug")
    async def fail() -> None:
        raise RuntimeError("s3cret")


def test_an_answer_that_takes_too_long_is_told_so(url: str) -> None:
    answer = httpx.post(f"{url}/wait", json={}, timeout=60)

    assert answer.status_code == 504
    assert answer.json()["type"] == "urn:clip-qdrant:DeadlineExceeded"
    assert "1 s" in answer.json()["detail"]
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]


def test_what_ran_when_its_request_expired_goes_on_and_its_place_is_free_again(url: str, doings: Doings) -> None:
    doings.gate.clear()
    before = doings.done

    late = httpx.get(f"{url}/block", timeout=60)
    doings.gate.set()
    while doings.done == before:
        time.sleep(0.005)
    answer = httpx.get(f"{url}/block", timeout=60)

    assert (late.status_code, answer.status_code) == (504, 200)
    assert 0 < answer.json() < 1.0


@pytest.mark.parametrize(
    ("path", "length", "body"),
    [("/wait", "", ""), ("/wait", "Content-Length: 0\r\n", ""), ("/read-and-wait", "Content-Length: 2\r\n", "{}")],
)
def test_a_caller_that_goes_cancels_the_handler(
    patient_url: str, doings: Doings, path: str, length: str, body: str
) -> None:
    doings.begun.clear()
    doings.cancelled.clear()
    host, port = patient_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n{body}".encode())
        assert doings.begun.wait(5)

    assert doings.cancelled.wait(5)


def test_an_error_of_the_library_is_told_in_its_words_without_secrets(url: str) -> None:
    answer = httpx.get(f"{url}/filter", headers={"X-Request-ID": "abc-1"}, timeout=60)

    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:clip-qdrant:FilterError",
        "title": "Bad Request",
        "status": 400,
        "detail": "no field 'x' at https://***@host/",
        "request_id": "abc-1",
        "column": 3,
    }


def test_a_bug_tells_nothing_of_itself(url: str) -> None:
    answer = httpx.get(f"{url}/bug", timeout=60)

    assert answer.status_code == 500
    assert "s3cret" not in answer.text
    assert answer.json()["title"] == "Internal Server Error"


def test_an_id_that_could_forge_a_log_is_replaced(url: str) -> None:
    answer = httpx.get(f"{url}/healthz", headers={"X-Request-ID": "a b"}, timeout=60)

    assert answer.status_code == 200
    assert answer.headers["X-Request-ID"] != "a b"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
