"""One process has a store open for several: who starts it, who may end it, and what is left when somebody is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from qdrant_client import models
from store_user import StoreUser

from clip_qdrant.errors import StoreUnavailable
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.lock import FileLock
from clip_qdrant.store.edge.process.address import StoreAddress
from clip_qdrant.store.edge.process.client import SharedEdgeClient
from clip_qdrant.store.edge.process.host import host_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="users of the store are forked and killed")

COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)


def point(i: int) -> models.PointStruct:
    return models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i})


def process_of(root: Path) -> int:
    address = StoreAddress.read(root)
    assert address is not None
    return address.pid


def wait_for_end(root: Path) -> None:
    """Until nobody answers for the store any more."""
    FileLock(root / "process" / "lock", wait=True).release()


def test_of_five_that_come_at_once_one_starts_the_process_and_all_work_until_the_last_ends(tmp_path: Path) -> None:
    users = [StoreUser.start(tmp_path) for _ in range(5)]
    for user in users:
        user.begin("collection_exists", "c")
    assert [user.result() for user in users] == [False] * 5
    process = process_of(tmp_path)
    if (maps := Path(f"/proc/{process}/maps")).exists():  # it needs no model
        assert not {name for name in ("torch", "onnxruntime") if name in maps.read_text()}
    users[0].call("create_collection", "c", COSINE)

    for number, user in enumerate(users):  # all write and search at once
        user.begin("upsert", "c", [point(100 * number + i) for i in range(100)], times=5)
    for user in users:
        user.result()
        user.begin("query_points", "c", [1.0, 0, 0, 0], times=20)
    assert [user.result().points[0].id for user in users] == [0] * 5
    assert users[3].call("count", "c").count == 500

    with connect(tmp_path) as joined:  # type: ignore[attr-defined]  # both kinds of client are context managers
        assert isinstance(joined, SharedEdgeClient)
        assert joined.count("c").count == 500
    for user in users[:2]:
        user.kill()
    for user in users[2:4]:
        user.end()
    os.kill(process, signal.SIGINT)  # it ends with its last user, and not before
    os.kill(process, signal.SIGTERM)
    assert users[4].call("count", "c").count == 500
    assert process_of(tmp_path) == process

    users[4].end()  # waits until the store is closed
    with EdgeClient(tmp_path) as alone:
        assert alone.count("c").count == 500
    wait_for_end(tmp_path)
    assert sorted(path.name for path in (tmp_path / "process").iterdir()) == ["lock", "start.lock"]


def test_a_process_that_was_killed_is_replaced_and_what_it_acknowledged_is_there(tmp_path: Path) -> None:
    with SharedEdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        client.upsert("c", [point(i) for i in range(50)])
        first = process_of(tmp_path)

        def kill_meanwhile() -> Iterator[models.PointStruct]:
            yield point(50)
            os.kill(first, signal.SIGKILL)
            yield point(51)

        with pytest.raises(StoreUnavailable, match=r"upload_points: the process of the store .* ended") as error:
            client.upload_points("c", kill_meanwhile())
        assert error.value.transient

        assert client.count("c").count == 50
        second = process_of(tmp_path)
        os.kill(second, signal.SIGKILL)
        wait_for_end(tmp_path)
        assert client.count("c").count == 50  # what waits for a call is noticed to be gone before
        assert len({first, second, process_of(tmp_path)}) == 3


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_process_ends_with_a_user_that_was_killed_and_a_fork_is_a_user_of_its_own(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with SharedEdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        process = process_of(tmp_path)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                client.upsert("c", [point(1)])
                os.write(writing, str(client.count("c").count).encode())
            os.kill(os.getpid(), signal.SIGKILL)
        os.close(writing)
        with os.fdopen(reading) as answers:
            assert answers.read() == "1"
        os.waitpid(child, 0)
        assert client.count("c").count == 1
        assert process_of(tmp_path) == process

    user = StoreUser.start(tmp_path)
    assert user.call("count", "c").count == 1
    user.kill()
    wait_for_end(tmp_path)
    with EdgeClient(tmp_path) as alone:
        assert alone.count("c").count == 1


def test_who_joined_a_program_that_has_the_store_open_goes_on_when_that_ends(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        host = host_store(tmp_path)
        host.create_collection("c", COSINE)
        client = connect(tmp_path)
        stack.callback(client.close)
        assert (type(host).__name__, type(client).__name__) == ("HostEdgeClient", "SharedEdgeClient")
        assert process_of(tmp_path) == os.getpid()
        with ThreadPoolExecutor(4) as threads:
            written = [threads.submit(client.upsert, "c", [point(i)]) for i in range(200)]
            written[50].result()
            host.close()  # what is under way is finished, what comes later goes elsewhere
            assert all(one.result().status == "completed" for one in written)

        assert client.count("c").count == 200
        assert process_of(tmp_path) != os.getpid()


def test_a_process_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no such module' >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    client = SharedEdgeClient(tmp_path / "store")
    with client, pytest.raises(StoreUnavailable, match=r"did not start: no such module \(all of it is in .*\.log"):
        client.count("c")


def test_a_program_where_nobody_can_join_has_the_store_open_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError("no sockets here")

    monkeypatch.setattr("clip_qdrant.store.edge.process.server.listen", refuse)
    host = host_store(tmp_path)
    host.create_collection("c", COSINE)
    assert isinstance(connect(tmp_path), EdgeClient)
    host.close()
    host.close()
    with EdgeClient(tmp_path) as alone:
        assert alone.count("c").count == 0
