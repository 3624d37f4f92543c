"""Calls of a shared store: the methods of EdgeClient, whatever they are given and give, and nobody else's."""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant import errors
from clip_qdrant.errors import (
    ClipQdrantError,
    CollectionNotFound,
    ConfigError,
    FilterError,
    InvalidPoint,
    MetadataError,
    MissingExtra,
    SourceError,
    StoreError,
    StoreLocked,
    StoreUnavailable,
    UnsupportedByEdge,
)
from clip_qdrant.store.connect import connect, is_embedded
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.lock import FileLock
from clip_qdrant.store.edge.optimize import OptimizeStep
from clip_qdrant.store.edge.process.address import StoreAddress, connect_to, make_folder
from clip_qdrant.store.edge.process.channel import StoreChannel, introduce, new_user
from clip_qdrant.store.edge.process.client import SharedEdgeClient
from clip_qdrant.store.edge.process.messages import answer_call, make_call, send_call
from clip_qdrant.store.edge.process.server import StoreServer

COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)
OF_THE_TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ClipQdrantError)]


def point(i: int) -> models.PointStruct:
    return models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i})


@pytest.fixture(params=["socket", "port"])
def shared(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SharedEdgeClient]:
    """A user of a store that threads of this process answer for."""
    if request.param == "socket" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("no Unix sockets on this system")
    lock = FileLock(make_folder(tmp_path) / "lock", wait=False)
    server = StoreServer(EdgeClient(tmp_path), tmp_path, is_process=False, by_port=request.param == "port")
    with SharedEdgeClient(tmp_path) as client:
        yield client
    server.close()
    lock.release()


def talk(run: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a call gives that is sent to `run` through a socket; raises what it raises."""
    called, (ours, theirs) = make_call("run", arguments, options), socket.socketpair()
    with ours, theirs:
        there = StoreChannel(theirs, b"")
        answer = threading.Thread(
            target=lambda: answer_call(there, there.receive(), lambda _, values, named: run(*values, **named))
        )
        answer.start()
        outcome = send_call(StoreChannel(ours, b""), called)
        answer.join()
    assert outcome is not None
    value, failure = outcome
    if failure is not None:
        raise failure
    return value


def fail(error: BaseException) -> Callable[..., Any]:
    def run(*_: Any) -> Any:
        raise error

    return run


def test_every_method_of_the_embedded_client_is_there_with_its_signature() -> None:
    public = {name: one for name, one in inspect.getmembers(EdgeClient, inspect.isfunction) if name[0] != "_"}
    assert {name for name in vars(QdrantBase) if name[0] != "_"} <= public.keys()
    for name, method in public.items():
        assert inspect.signature(getattr(SharedEdgeClient, name)) == inspect.signature(method), name


def test_a_shared_store_does_what_one_of_its_own_does(shared: SharedEdgeClient, tmp_path: Path) -> None:
    shared.create_collection("c", COSINE, metadata={"a": 1})
    shared.upload_points("c", (point(i) for i in range(1000)), batch_size=100)
    large = models.PointStruct(id=5000, vector=[0, 0, 0, 1.0], payload={"text": "x" * (16 << 20)})
    shared.upsert("c", [large])

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: shared.query_points("c", np.array([1.0, i, 0, 0])).points[0], range(20)))
    assert [hit.payload for hit in found] == [{"n": i} for i in range(20)]
    assert shared.retrieve("c", [5000])[0].payload == large.payload
    with pytest.raises(CollectionNotFound, match="there is no collection 'd'"):
        shared.count("d")
    with pytest.raises(InvalidPoint):
        shared.upsert("c", [models.PointStruct(id=1, vector=[1.0])])
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        shared.count()  # type: ignore[call-arg]
    assert is_embedded(shared)
    assert repr(shared) == f"SharedEdgeClient({str(tmp_path)!r})"


def test_a_store_is_joined_where_somebody_answers_and_else_opened_in_this_process(
    shared: SharedEdgeClient, tmp_path: Path
) -> None:
    shared.create_collection("c", COSINE)
    joined = connect(tmp_path)
    assert joined.count("c").count == 0
    joined.close()
    with pytest.raises(StoreError, match="is closed; make a new client"):
        joined.count("c")
    assert shared.count("c").count == 0
    assert isinstance(connect(tmp_path / "other"), EdgeClient)
    assert isinstance(connect(tmp_path), SharedEdgeClient)
    (tmp_path / "process" / "address").unlink()  # as whoever answers does before it closes the store
    assert isinstance(connect(tmp_path), SharedEdgeClient)
    assert not (tmp_path / "other").exists()
    with pytest.raises(ConfigError, match="cannot be shared"):
        connect(":memory:", shared=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        connect(tmp_path / "file", shared=True)


@pytest.mark.parametrize("shared", ["socket"], indirect=True)
def test_a_shared_collection_is_optimized_and_tells_how_far_it_is(shared: SharedEdgeClient) -> None:
    shared.create_collection("c", COSINE)
    shared.upsert("c", [point(i) for i in range(50)])
    steps: list[OptimizeStep] = []
    done = shared.optimize("c", on_progress=steps.append)  # type: ignore[attr-defined]  # what EdgeClient has beyond QdrantBase
    assert (done.points, shared.count("c").count) == (50, 50)
    assert steps or not done.changed


def test_a_stranger_is_refused_and_what_it_sends_is_not_read(shared: SharedEdgeClient, tmp_path: Path) -> None:
    shared.create_collection("c", COSINE)
    address = StoreAddress.read(tmp_path)
    assert address is not None
    for said in (b"", b"\x80\x04" * 200, b"GET / HTTP/1.1\r\n\r\n" + b"x" * 80):
        stranger = connect_to(address)
        assert stranger is not None
        with stranger:
            assert stranger.recv(32)  # what it is to prove that it knows the token with, and no more
            with contextlib.suppress(OSError):  # it may have been put out by now
                stranger.sendall(said)
                stranger.shutdown(socket.SHUT_WR)
                assert not stranger.recv(1)
    guesser = connect_to(address)
    assert guesser is not None
    with guesser, pytest.raises(OSError, match="has ended"):
        introduce(guesser, b"another token", b"u" * 16)
    assert shared.count("c").count == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes there")
def test_only_the_user_may_look_at_the_address_and_the_socket(shared: SharedEdgeClient, tmp_path: Path) -> None:
    address = StoreAddress.read(tmp_path)
    assert address is not None
    assert stat.S_IMODE((tmp_path / "process").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "process" / "address").stat().st_mode) == 0o600
    if address.path is not None:
        assert stat.S_IMODE(Path(address.path).parent.stat().st_mode) == 0o700


def test_who_answered_for_a_folder_that_was_deleted_leaves_the_address_of_the_next_alone(tmp_path: Path) -> None:
    root, gone = tmp_path / "store", tmp_path / "gone"
    servers = []
    for _ in range(2):
        make_folder(root)
        servers.append(StoreServer(EdgeClient(root), root, is_process=False))
        if len(servers) == 1:
            root.rename(gone)  # which frees its path as deleting it does
    first, second = servers

    first.close()

    address = StoreAddress.read(root)
    assert address is not None
    connection = connect_to(address)
    assert connection is not None
    connection.close()
    second.close()
    assert StoreAddress.read(root) is None


def test_a_call_in_hand_when_another_thread_closes_the_client_says_so(shared: SharedEdgeClient) -> None:
    shared.create_collection("c", COSINE)
    begun, go_on = threading.Event(), threading.Event()

    def points() -> Iterator[models.PointStruct]:
        begun.set()
        go_on.wait(60)
        yield point(1)

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(shared.upload_points, "c", points())
        begun.wait(60)
        shared.close()
        go_on.set()
        with pytest.raises(StoreError, match=r"upload_points: the embedded store .* was closed meanwhile") as raised:
            call.result(60)
    assert not isinstance(raised.value, StoreUnavailable)  # which asks for another try


def test_who_comes_where_no_thread_can_be_started_for_it_tries_again(
    shared: SharedEdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, refused = threading.Thread.start, list[str]()

    def refuse_some(thread: threading.Thread) -> None:
        if thread.name == "user of the store" and len(refused) < 3:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")  # as the system's limit makes it
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_some)
    assert shared.get_collections().collections == []
    assert len(refused) == 3


def test_who_comes_after_the_last_user_has_gone_is_sent_elsewhere(shared: SharedEdgeClient, tmp_path: Path) -> None:
    shared.close()
    address = StoreAddress.read(tmp_path)
    assert address is not None
    [server] = [one for one in gc.get_objects() if isinstance(one, StoreServer) and one._address == address]
    server.wait_until_unused(0)
    connection = connect_to(address)
    assert connection is not None

    channel = introduce(connection, bytes.fromhex(address.token), new_user())

    assert send_call(channel, make_call("get_collections", (), {})) is None  # it was not begun, which is no failure


def test_another_version_of_the_code_is_refused(shared: SharedEdgeClient, tmp_path: Path) -> None:
    path = tmp_path / "process" / "address"
    address = json.loads(path.read_text())
    path.write_text(json.dumps({**address, "code": {**address["code"], "qdrant-client": "0.1"}}))
    with pytest.raises(StoreUnavailable, match=r"qdrant-client 0\.1, and this one .* start them with the same version"):
        shared.get_collections()
    path.write_text(json.dumps(address))


def test_a_program_that_has_a_collection_open_for_a_moment_is_waited_for(
    shared: SharedEdgeClient, tmp_path: Path
) -> None:
    with EdgeClient(tmp_path) as alone:
        alone.create_collection("c", COSINE)
    [path] = (tmp_path / "collections").glob("*.lock")
    held = FileLock(path, wait=False)  # as another process would have it
    threading.Timer(0.2, held.release).start()
    assert shared.count("c").count == 0


def test_a_process_whose_socket_is_out_of_reach_is_told_of(
    shared: SharedEdgeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "process" / "address"
    address = path.read_text()
    path.write_text(
        json.dumps({**json.loads(address), "path": str(tmp_path / "of another container"), "host": "there"})
    )
    monkeypatch.setattr("clip_qdrant.store.edge.process.start._PATIENCE_OUT_OF_REACH", 0.05)
    with pytest.raises(StoreLocked, match=r"is open in process \d+ of there, and its socket is out of reach"):
        shared.get_collections()
    path.write_text(address)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer on this system")
def test_a_call_that_is_interrupted_leaves_the_client_usable(
    shared: SharedEdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.create_collection("c", COSINE)
    count = EdgeClient.count

    def slowly(*arguments: Any, **options: Any) -> models.CountResult:
        time.sleep(0.3)
        return count(*arguments, **options)

    monkeypatch.setattr(EdgeClient, "count", slowly)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(2):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                shared.count("c")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert shared.collection_exists("c")
    assert shared.count("c").count == 0


@pytest.mark.parametrize("kind", OF_THE_TREE)
def test_an_error_arrives_as_it_was(kind: type[ClipQdrantError]) -> None:
    special: dict[type[ClipQdrantError], ClipQdrantError] = {
        FilterError: FilterError("no such field", column=3, unknown_field="yaer"),
        MetadataError: MetadataError("no date", field="metadata.day"),
        MissingExtra: MissingExtra("onnxruntime", "onnx", "embedding"),
        SourceError: SourceError("away", transient=True),
        StoreUnavailable: StoreUnavailable("away", transient=True),
        UnsupportedByEdge: UnsupportedByEdge("snapshots"),
    }
    error = special.get(kind) or kind("what failed: café")
    with pytest.raises(kind) as arrived:
        talk(fail(error))
    assert (type(arrived.value), str(arrived.value), vars(arrived.value)) == (kind, str(error), vars(error))


def test_errors_of_others_arrive_as_something_that_their_catchers_know() -> None:
    class Own(KeyError):
        pass

    class Panic(BaseException):
        pass

    with pytest.raises(ValidationError, match="id"):
        talk(lambda: models.PointStruct(vector=[1.0]))  # type: ignore[call-arg]
    with pytest.raises(FileNotFoundError, match=r"x\.json"):
        talk(lambda: Path("x.json").read_text())
    with pytest.raises(KeyError, match="n"):
        talk(fail(Own("n")))
    with pytest.raises(StoreError, match="rust"):
        talk(fail(Panic("rust")))
    with pytest.raises((TypeError, AttributeError)):
        talk(lambda: threading.Lock())  # an answer that cannot be sent
    with pytest.raises(StoreError, match="run: what it was given cannot be sent"):
        talk(print, [threading.Lock()])


def test_functions_and_streams_stay_with_the_user() -> None:
    seen: list[tuple[int, str]] = []
    pulled: list[int] = []

    def points() -> Iterator[int]:
        for i in range(1000):
            pulled.append(i)
            yield i

    def work(numbers: Iterator[int], progress: Callable[[int, str], int]) -> list[int]:
        first = next(iter(numbers))
        return [first, progress(1, "half"), progress(2, "all"), *numbers]

    def note(step: int, text: str) -> int:
        seen.append((step, text))
        return step * 10

    assert talk(work, points(), progress=note) == [0, 10, 20, *range(1, 1000)]
    assert seen == [(1, "half"), (2, "all")]
    pulled.clear()
    assert talk(lambda numbers: next(iter(numbers)), points()) == 0
    assert len(pulled) < 1000
    assert talk(sum, {1: 2, 3: 4}.values()) == 6

    assert talk(lambda progress: progress(), lambda: threading.Lock()) is None  # nobody asked for that
    with pytest.raises(TypeError, match="pickle"):
        talk(list, (threading.Lock() for _ in range(2)))

    def broken(*_: Any) -> int:
        raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError, match="of the user"):
        talk(work, points(), progress=broken)
