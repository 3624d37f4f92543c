"""`clip-qdrant serve`: whom it lets in from where, what it starts with, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import FakeEmbedder
from forks import PROGRAM, Fork, start_fork
from program import Program, program_in

from clip_qdrant.errors import ConfigError
from clip_qdrant.service.server import listen, make_server
from clip_qdrant.service.state import Service
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.process.host import HostEdgeClient

KEY = "k" * 20


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Service]:
    """The services that would run."""
    services: list[Service] = []

    def run(service: Service, listener: socket.socket, *, drain: float) -> None:
        assert listener.getsockname()[1] > 0
        services.append(service)
        service.close()

    monkeypatch.setattr("clip_qdrant.service.server.run_server", run)
    return services


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_keys_it_listens_to_nobody_else_and_tells_the_way_out(
    program: Program, started: list[Service], host: str
) -> None:
    outcome = program("serve", "--host", host, "--port", "0")

    assert (outcome.code, started) == (2, [])
    for way in ("CLIP_QDRANT_SERVICE_KEY", "openssl rand -hex 32", "--key-file", "--host"):
        assert way in outcome.err


def test_with_a_key_it_listens_anywhere(
    program: Program, started: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIP_QDRANT_SERVICE_KEY", KEY)
    monkeypatch.setenv("CLIP_QDRANT_SERVICE_READ_KEY", "r" * 20)

    outcome = program("serve", "--host", "0.0.0.0", "--port", "0", "--collection", "photos")

    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("serving collection photos at http://0.0.0.0:")
    assert KEY not in outcome.out + outcome.err
    keys = started[0].keys
    assert keys.find(KEY).scopes == {"read", "write", "admin"}
    assert keys.find("r" * 20).scopes == {"read"}


def test_it_is_made_of_its_settings(program: Program, started: list[Service], tmp_path: Path) -> None:
    (tmp_path / "clip-qdrant.toml").write_text(
        'max_hits = 7\nmax_image_pixels = 1000\nmax_body_bytes = "1MiB"\nthreads = 3\nmax_waiting = 0\nsource = "p"\n'
        'ingest_from = ["/srv/photos", "s3://bucket/"]\nmodel_names = ["ours"]\n'
    )

    outcome = program(
        *("serve", "--port", "0", "--deadline", "2.5", "--allow-private", "--audit-log", "audit.jsonl"),
        *("--cors-origin", "https://a.example", "--cors-origin", "https://b.example"),
    )

    assert outcome.code == 0, outcome.err
    options = started[0].options
    assert (options.max_hits, options.limits.max_pixels, options.max_body_bytes) == (7, 1000, 1 << 20)
    assert (options.threads, options.waiting, options.deadline, options.allow_private) == (3, 0, 2.5, True)
    assert options.cors_origins == ("https://a.example", "https://b.example")
    assert options.ingest.places == ("/srv/photos", "s3://bucket/")
    assert options.ingest.state == Path("qdrant-data/ingestion.sqlite")
    assert {"clip-qdrant", "clip-qdrant-bundled", "ours"} == set(options.model_names)
    assert isinstance(started[0].client, HostEdgeClient)  # others may join its store
    assert (tmp_path / "audit.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--key-file", "none.toml"], "cannot read the keys in none.toml"),
        (["--audit-log", "none/audit.jsonl"], "cannot write to the audit log"),
        (["--deadline", "0"], "deadline is 0.0: it must be a number of seconds above 0"),
        (["--port", "70000"], "port is 70000: it must be a whole number from 0 to 65535"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(
    program: Program, started: list[Service], arguments: list[str], told: str
) -> None:
    outcome = program("serve", "--port", "0", *arguments)

    assert (outcome.code, started) == (2, [])
    assert told in outcome.err


def test_an_address_of_another_computer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen at 192\.0\.2\.1 port 0"):
        listen("192.0.2.1", 0)


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(program: Program, started: list[Service]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = program("serve", "--port", str(taken.getsockname()[1]))

    assert (outcome.code, started) == (2, [])
    assert "--port" in outcome.err
    assert program.embedder.text_calls == []


@pytest.mark.parametrize(
    ("arguments", "way"), [(("--location", ":memory:"), "--location"), (("--config", "ingest.toml"), "ingest_from")]
)
def test_what_several_processes_cannot_share_is_refused(
    program: Program, started: list[Service], tmp_path: Path, arguments: tuple[str, str], way: str
) -> None:
    (tmp_path / "ingest.toml").write_text('ingest_from = ["/srv/photos"]')
    outcome = program(*arguments, "serve", "--port", "0", "--workers", "2")

    assert (outcome.code, started) == (2, [])
    assert way in outcome.err
    assert "--workers 1" in outcome.err


@pytest.mark.slow
def test_several_processes_answer_at_one_port_over_one_store(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}
    command = [sys.executable, "-m", "clip_qdrant", "serve", "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=env) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.endswith(" with 2 processes\n")
            url = line.split()[4]
            wait_for(url, "/readyz", 200)
            assert (
                httpx.put(f"{url}/v1/collections/images", json={"fields": {"year": "integer"}}, timeout=60).status_code
                == 201
            )
            for _ in range(8):  # each a connection of its own, so that both answer
                assert (
                    httpx.get(f"{url}/v1/collections/images", timeout=60).json()["fields"]["metadata.year"] == "integer"
                )
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


FAKE = """
from clip_qdrant.cli import wiring
from fakes import FakeEmbedder
wiring.open_embedder = lambda _: FakeEmbedder()
"""


@contextlib.contextmanager
def served(folder: Path, *arguments: str) -> Iterator[tuple[Fork, str]]:
    """The program in a process of its own, with a fake embedder, and where it answers."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}
    fork = start_fork(FAKE + PROGRAM, "serve", "--port", "0", *arguments, cwd=folder, env=env)
    try:
        line = fork.stdout.readline()
        assert line.startswith("serving collection images at "), line + fork.stderr.read()
        yield fork, line.split()[-1]
    finally:
        fork.kill()
        fork.communicate()


def wait_for(url: str, path: str, status: int) -> dict[str, Any]:
    """What a path tells as soon as it has this status; until it listens, a connection is refused."""
    for _ in range(2400):
        with contextlib.suppress(httpx.ConnectError):
            answer = httpx.get(url + path, timeout=60)
            if answer.status_code == status:
                told: dict[str, Any] = answer.json()
                return told
        time.sleep(0.05)
    raise AssertionError(f"{path} was never answered by {status}")


def test_it_finishes_what_it_has_in_hand_on_sigterm(tmp_path: Path) -> None:
    with served(tmp_path) as (fork, url):
        assert wait_for(url, "/readyz", 200) == {"status": "ready"}
        body = b'{"fields": {"year": "integer"}}'
        begun = http.client.HTTPConnection(url.removeprefix("http://"))
        begun.putrequest("PUT", "/v1/collections/images")
        begun.putheader("Content-Type", "application/json")
        begun.putheader("Content-Length", str(len(body)))
        begun.endheaders(body[:5])
        assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200  # by now the other request is in hand

        os.kill(fork.pid, signal.SIGTERM)
        with pytest.raises(httpx.ConnectError):  # no new connections
            while httpx.get(f"{url}/healthz", timeout=60):
                time.sleep(0.05)
        begun.send(body[5:])
        answer = begun.getresponse()

        assert (answer.status, b"metadata.year" in answer.read()) == (201, True)
        begun.close()
        fork.process.join(60)
        assert fork.returncode == 0
    with EdgeClient(tmp_path / "qdrant-data") as client:
        assert client.collection_exists("images")


def test_it_goes_on_answering_while_it_drains_and_ends_at_once_when_it_is_told_again(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client, listen("127.0.0.1", 0) as listener:
        server = make_server(Service(client, FakeEmbedder()), drain=3600)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.start()
        wait_for(url, "/readyz", 200)

        server.handle_exit(signal.SIGTERM, None)

        assert wait_for(url, "/readyz", 503) == {"status": "draining"}
        assert httpx.get(f"{url}/v1/collections", timeout=60).status_code == 200
        server.handle_exit(signal.SIGINT, None)
        thread.join(60)
        assert not thread.is_alive()
