"""Fixtures of several test files: the Qdrant clients that everything must work with."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from edge_server import EdgeServer
from hypothesis import settings
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient

# A machine that is busy with something else is no reason for a property to fail.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs the suite in the background has it ignore SIGINT, and so would every process started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Said once a process by QdrantClient(":memory:"), to whichever test comes first. Nothing here relies on them there.
    config.addinivalue_line("filterwarnings", "ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


@pytest.fixture(scope="session")
def docker_compose_file(pytestconfig: pytest.Config) -> str:
    """For pytest-docker: the compose file that users get."""
    return str(pytestconfig.rootpath / "docker-compose.yml")


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """The URL of a real Qdrant server: CLIP_QDRANT_TEST_URL, or one started with docker compose; skips without."""
    if url := os.environ.get("CLIP_QDRANT_TEST_URL"):
        return url
    for command in (["docker", "info"], ["docker", "compose", "version"]):
        try:
            answer = subprocess.run(command, capture_output=True, timeout=20, check=False).returncode
        except (OSError, subprocess.TimeoutExpired):
            answer = 1
        if answer:
            pytest.skip(f"no Qdrant server: CLIP_QDRANT_TEST_URL is not set and `{' '.join(command)}` fails")
    os.environ["QDRANT_HTTP_PORT"], os.environ["QDRANT_GRPC_PORT"] = str(_free_port()), str(_free_port())
    services = request.getfixturevalue("docker_services")
    return f"http://{request.getfixturevalue('docker_ip')}:{services.port_for('qdrant', 6333)}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def edge_client(tmp_path: Path) -> Iterator[EdgeClient]:
    """An empty embedded store."""
    with EdgeClient(tmp_path / "store") as client:
        yield client


@pytest.fixture
def edge_server(tmp_path: Path) -> Iterator[EdgeServer]:
    """A server with an empty store, for this test alone: it can be killed and restarted."""
    with EdgeServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def memory_client() -> Iterator[QdrantBase]:
    """An empty in-memory store of qdrant-client."""
    client = QdrantClient(":memory:")
    yield client
    client.close()


@pytest.fixture
def server_client(server_url: str) -> Iterator[QdrantBase]:
    """A client of a real server. What the test creates there is deleted after it."""
    client = connect(server_url, api_key=os.environ.get("CLIP_QDRANT_TEST_API_KEY"))
    before = {one.name for one in client.get_collections().collections}
    yield client
    for one in client.get_collections().collections:
        if one.name not in before:
            client.delete_collection(one.name)
    client.close()


@pytest.fixture(params=["edge", "memory", "server"])
def client(request: pytest.FixtureRequest) -> QdrantBase:
    """Each kind of client in turn, the server's where there is one."""
    return request.getfixturevalue(f"{request.param}_client")


@pytest.fixture
def collection_name() -> str:
    """A collection name that nobody else uses, on a shared server neither."""
    return f"test_{uuid.uuid4().hex}"
