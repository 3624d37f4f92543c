"""Fixtures of several test files: the Qdrant clients that everything must work with."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tenacity
from edge_server import EdgeServer
from forks import preload
from hypothesis import settings
from ports import unused_port
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase
from varied import varied_images

from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.process.client import SharedEdgeClient
from clip_qdrant.store.edge.process.host import host_store

# A machine that is busy with something else is no reason for a property to fail.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")


# Files of tests of up to a minute, many of which wait for processes. They come first, in this order: one that began
# last would leave all workers but its own without work.
_LONGEST = (
    "test_nothing_is_sent.py",
    "test_newcomer.py",
    "test_readme.py",
    "test_packaging.py",
    "ingestion/test_ingestion_ray.py",
    "training/test_training_processes.py",
    "examples/test_examples.py",
    "service/test_serve.py",
    "integrations/test_integrations_send_nothing.py",
)

# The room that a run of the whole suite needs on a disk in memory, with some to spare.
_ROOM = 4 << 30


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """For a folder of tests a worker more than there are cores, as some wait: for processes, outages and watchers.

    None for files named one by one, as workers start slowly.
    """
    if not any(Path(argument.partition("::")[0]).is_dir() for argument in config.args):
        return 0
    return 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # A shell that runs the suite in the background has it ignore SIGINT, and so would every process started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    preload()
    # Said once a process by QdrantClient(":memory:"), to whichever test comes first. Nothing here relies on them there.
    config.addinivalue_line("filterwarnings", "ignore:Payload indexes have no effect in the local Qdrant:UserWarning")
    if not hasattr(config, "workerinput"):  # what follows holds for the workers of pytest-xdist too, which inherit it
        _share_cores()
        _choose_folder(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays until the end: a million objects among which no garbage is looked for."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(_LONGEST)}
    assert all(path.is_file() for path in places), "a file that _LONGEST names is not there"
    items.sort(key=lambda item: places.get(item.path, len(places)))


def _share_cores() -> None:
    """One thread for each worker's sums, and none that spins while it waits: cores are shared with other workers."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _choose_folder(config: pytest.Config) -> None:
    """A folder in memory for all that the tests write, unless --basetemp names one: each index of a store is synced.

    It is removed at the end. Caches of the user lie in it too, so that each model is exported once a run, by whichever
    worker needs it first, and nothing is left in the home of whoever runs the tests.
    """
    memory = Path("/dev/shm")
    if config.option.basetemp is None and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= _ROOM:
        made = Path(tempfile.mkdtemp(prefix="clip-qdrant-tests-", dir=memory))
        config.add_cleanup(lambda: shutil.rmtree(made, ignore_errors=True))
        config.option.basetemp = str(made / "tests")
        cache = made / "cache"
    else:
        cache = Path(tempfile.mkdtemp(prefix="clip-qdrant-cache-"))
        config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = str(cache)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed goes from a worker as UTF-8, which has no lone surrogates: file names that are no text."""
    report = yield
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason why tests were skipped, however many they were."""
    reasons: dict[str, list[str]] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        reasons.setdefault(reason, []).append(report.nodeid.partition("::")[0])
    for reason, files in sorted(reasons.items()):
        where = files[0] if len(set(files)) == 1 else f"{len(set(files))} files"
        terminalreporter.write_line(f"SKIPPED [{len(files)}] {where}: {reason}", yellow=True)


@pytest.fixture(scope="session")
def docker_compose_file(pytestconfig: pytest.Config) -> str:
    """For pytest-docker: the compose file that users get."""
    return str(pytestconfig.rootpath / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    """For pytest-docker: of what users get, the server alone."""
    return ["up -d --wait qdrant"]


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
    os.environ["QDRANT_HTTP_PORT"], os.environ["QDRANT_GRPC_PORT"] = str(unused_port()), str(unused_port())
    services = request.getfixturevalue("docker_services")
    os.environ["CLIP_QDRANT_TEST_GRPC_PORT"] = os.environ["QDRANT_GRPC_PORT"]
    return f"http://{request.getfixturevalue('docker_ip')}:{services.port_for('qdrant', 6333)}"


@pytest.fixture(scope="session")
def varied_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """27 images of all kinds, made once for all tests of parity with other libraries."""
    return varied_images(tmp_path_factory.mktemp("varied"))


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts come out empty: a run draws several, half a second each, and they have tests of their own."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)


@pytest.fixture
def no_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs end without making graphs, which takes seconds: tests/training/test_training_graphs.py has them made."""
    monkeypatch.setattr("clip_qdrant_training.loop.validation.Validation.add_graphs", lambda _: None)


@pytest.fixture
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries a twentieth as long, for tests in which many fail."""
    exponential, uniform = tenacity.wait_exponential, tenacity.wait_random
    monkeypatch.setattr(
        "clip_qdrant.retry.wait_exponential",
        lambda multiplier, max: exponential(multiplier=multiplier / 20, max=max / 20),
    )
    monkeypatch.setattr("clip_qdrant.retry.wait_random", lambda least, most: uniform(least / 20, most / 20))


@pytest.fixture
def edge_client(tmp_path: Path) -> Iterator[EdgeClient]:
    """An empty embedded store."""
    with EdgeClient(tmp_path / "store") as client:
        yield client


@pytest.fixture
def shared_client(tmp_path: Path) -> Iterator[SharedEdgeClient]:
    """An empty embedded store that somebody else has open: threads of this process, which cost less than another."""
    host = host_store(tmp_path / "store")
    with SharedEdgeClient(tmp_path / "store") as client:
        yield client
    host.close()


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
    yield from _client_of(server_url, prefer_grpc=False)


@pytest.fixture
def grpc_client(server_url: str) -> Iterator[QdrantBase]:
    """The same over gRPC, at CLIP_QDRANT_TEST_GRPC_PORT (6334); skips where nothing answers there."""
    host, port = urlsplit(server_url).hostname or "", int(os.environ.get("CLIP_QDRANT_TEST_GRPC_PORT", "6334"))
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        pytest.skip(f"no gRPC at {host}:{port} ({error}): CLIP_QDRANT_TEST_GRPC_PORT names another port")
    yield from _client_of(server_url, prefer_grpc=True)


def _client_of(url: str, *, prefer_grpc: bool) -> Iterator[QdrantBase]:
    key, port = os.environ.get("CLIP_QDRANT_TEST_API_KEY"), os.environ.get("CLIP_QDRANT_TEST_GRPC_PORT", "6334")
    client = connect(url, api_key=key, prefer_grpc=prefer_grpc, grpc_port=int(port))
    before = {one.name for one in client.get_collections().collections}
    yield client
    for one in client.get_collections().collections:
        if one.name not in before:
            client.delete_collection(one.name)
    client.close()


@pytest.fixture(params=["edge", "memory", "server", "grpc"])
def client(request: pytest.FixtureRequest) -> QdrantBase:
    """Each kind of client in turn, the server's where there is one."""
    return request.getfixturevalue(f"{request.param}_client")


@pytest.fixture
def collection_name() -> str:
    """A collection name that nobody else uses, on a shared server neither."""
    return f"test_{uuid.uuid4().hex}"
