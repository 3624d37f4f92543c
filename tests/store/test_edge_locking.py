"""One process at a time has a collection open; threads share a client; a fork and a closed client are refused.

What the clients of one process share is in test_edge_sharing.py."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from forks import run_fork, start_fork
from qdrant_client import models

from clip_qdrant.errors import CollectionNotFound, InvalidRequest, StoreError, StoreLocked
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.lock import FileLock

COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)


def point(i: int) -> models.PointStruct:
    return models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i})


@pytest.mark.slow
def test_a_refused_open_from_another_process_does_no_harm(tmp_path: Path) -> None:
    code = f"from clip_qdrant.store.edge.client import EdgeClient; EdgeClient({str(tmp_path)!r}).count('c')"
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    client.upsert("c", [point(1)])
    client.upsert("c", [point(2)])

    assert "StoreLocked" in run_fork(code)[2]

    client.set_payload("c", {"x": 1}, points=[1])
    client.close()  # flushes, which fails if the other process has reached the engine
    assert run_fork(code) == (0, "", "")


def test_a_client_that_nobody_can_reach_keeps_nobody_out(tmp_path: Path) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    client.upsert("c", [point(1)])
    with pytest.raises(StoreError, match="there is no point 2"):
        client.set_payload("c", {"x": 1}, points=[2])

    client = EdgeClient(tmp_path)  # the first was not closed, but nothing refers to it now
    assert client.count("c").count == 1

    circle: list[Any] = [client]
    circle.append(circle)
    del client, circle
    with EdgeClient(tmp_path) as client:
        client.upsert("c", [point(2)])
    with EdgeClient(tmp_path) as client:
        assert client.count("c").count == 2


def test_metadata_changed_by_another_client_is_seen(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as first, EdgeClient(tmp_path) as second:
        first.create_collection("c", COSINE)
        second.update_collection("c", metadata={"by": "second"})

        assert first.get_collection("c").config.metadata == {"by": "second"}


@pytest.mark.slow
def test_many_processes_may_create_collections_at_once(tmp_path: Path) -> None:
    code = """
import sys
from qdrant_client import models
from clip_qdrant.store.edge.client import EdgeClient
with EdgeClient(sys.argv[1]) as client:
    for i in range(4):
        name = sys.argv[2] + str(i)
        client.create_collection(name, models.VectorParams(size=2, distance="Cosine"), metadata={"name": name})
"""
    forks = [start_fork(code, tmp_path, name) for name in "abc"]
    assert [(fork.communicate()[1], fork.returncode) for fork in forks] == [("", 0)] * 3

    with EdgeClient(tmp_path) as client:
        names = sorted(one.name for one in client.get_collections().collections)
        assert names == [f"{letter}{i}" for letter in "abc" for i in range(4)]
        assert all(client.get_collection(name).config.metadata == {"name": name} for name in names)


def test_threads_write_and_search_through_one_client(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", COSINE)
    edge_client.upsert("c", [point(0)])

    def write(start: int) -> int:
        for i in range(start, start + 200, 20):
            edge_client.upsert("c", [point(n) for n in range(i, i + 20)])
        return 200

    def search(_: int) -> int:
        for _ in range(50):
            assert edge_client.query_points("c", query=[1.0, 0, 0, 0], limit=1).points[0].id == 0
            assert edge_client.count("c").count > 0
        return 0

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(write if i % 2 else search, 200 * i) for i in range(8)]
        written = sum(future.result(60) for future in futures)

    assert edge_client.count("c").count == written + 1


def test_threads_open_a_collection_once(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
    ready = threading.Barrier(8)
    with EdgeClient(tmp_path) as client, ThreadPoolExecutor(8) as pool:

        def count(_: int) -> int:
            ready.wait(10)
            return client.count("c").count

        assert list(pool.map(count, range(8))) == [0] * 8


def test_a_change_of_vectors_opens_a_collection_beside_what_a_kill_left(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
    left = tmp_path / "collections" / "c-01234567"
    left.mkdir()
    client = EdgeClient(tmp_path)
    new = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig())
    change = threading.Thread(target=client.create_vector_name, args=("c", "words", new), daemon=True)

    change.start()
    change.join(60)

    assert not change.is_alive()  # it waited for the lock that it held itself
    assert not left.exists()
    assert client.get_collection("c").config.params.sparse_vectors is not None
    client.close()


def test_a_search_that_waited_for_a_change_of_vectors_goes_by_what_is_there_now(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", {"x": COSINE, "y": COSINE})
    edge_client.upsert("c", [models.PointStruct(id=1, vector={"x": [1, 0, 0, 0], "y": [1, 0, 0, 0]})])

    with ThreadPoolExecutor(1) as pool:
        with edge_client._folder.use("c"):
            search = pool.submit(edge_client.query_points, "c", query=[1.0, 0, 0, 0], using="x")
            time.sleep(0.1)
            edge_client.delete_vector_name("c", "x")
        with pytest.raises(InvalidRequest, match="'x' does not fit, the collection has 'y'"):
            search.result(60)


def test_threads_may_make_a_collection_anew_at_once(edge_client: EdgeClient) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [pool.submit(edge_client.recreate_collection, "c", COSINE) for _ in range(12)]
        assert all(one.result(60) for one in made)
    assert edge_client.count("c").count == 0


def test_closing_while_others_work_gives_them_a_clear_error(tmp_path: Path) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    started = threading.Event()

    def work() -> str:
        i = 0
        try:
            while True:
                client.upsert("c", [point(i)])
                i += 1
                started.set()
        except StoreError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work) for _ in range(2)]
        assert started.wait(10)
        client.close()
        assert all("is closed; make a new EdgeClient" in future.result(10) for future in futures)


def test_deleting_a_collection_while_others_work_gives_them_a_clear_error(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", COSINE)
    started = threading.Event()

    def work() -> None:
        while True:
            edge_client.count("c")
            started.set()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(work) for _ in range(2)]
        assert started.wait(10)
        edge_client.delete_collection("c")
        for future in futures:
            assert isinstance(future.exception(10), CollectionNotFound)


def test_a_closed_client_says_so(tmp_path: Path) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    client.close()
    client.close()

    for use in (client.get_collections, lambda: client.count("c"), lambda: client.create_collection("d", COSINE)):
        with pytest.raises(StoreError, match="is closed; make a new EdgeClient"):
            use()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_gets_an_error_and_the_parent_goes_on(edge_client: EdgeClient) -> None:
    edge_client.create_collection("c", COSINE)
    edge_client.upsert("c", [point(1)])
    reading, writing = os.pipe()

    child = os.fork()
    if child == 0:
        try:
            edge_client.count("c")
            message = "no error"
        except StoreError as error:
            message = str(error)
        edge_client.close()
        os.write(writing, message.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        message = answers.read()
    os.waitpid(child, 0)

    assert "start workers with the spawn method" in message
    edge_client.upsert("c", [point(2)])
    assert edge_client.count("c").count == 2


def test_a_collection_made_anew_by_another_client_meanwhile_is_opened_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)

    with EdgeClient(tmp_path) as client:
        lock = client._folder._shards.lock
        turns = iter(["recreate", "delete"])

        def after_another(folder: str, name: str) -> Any:
            with EdgeClient(tmp_path) as other:
                if (turn := next(turns, None)) is not None:
                    other.delete_collection("c")
                if turn == "recreate":
                    other.create_collection("c", models.VectorParams(size=2, distance=models.Distance.DOT))
            return lock(folder, name)

        monkeypatch.setattr(client._folder._shards, "lock", after_another)
        with pytest.raises(CollectionNotFound):
            client.count("c")
        assert list((tmp_path / "collections").iterdir()) == []

        with EdgeClient(tmp_path) as other:
            other.create_collection("c", COSINE)
        turns = iter(["recreate"])
        assert client.get_collection("c").config.params.vectors.size == 2
        assert len(list((tmp_path / "collections").iterdir())) == 3  # one shard, its lock and its record


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_that_is_forked_during_a_change_of_the_store_does_not_keep_others_from_theirs(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        with client._folder.edit():
            child = os.fork()
            if child == 0:
                os.close(writing)
                os.read(reading, 1)  # until the parent is done
                os._exit(0)
        FileLock(tmp_path / "store.lock", wait=False).release()
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)


def test_what_a_repair_makes_is_not_swept_before_its_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        folder = client._folder
        create = folder._shards.create

        def create_while_the_store_is_held(*arguments: Any) -> Any:
            with pytest.raises((BlockingIOError, PermissionError)):  # who sweeps holds the lock of the store
                FileLock(tmp_path / "store.lock", wait=False)
            return create(*arguments)

        monkeypatch.setattr(folder._shards, "create", create_while_the_store_is_held)
        _, made = folder.make_replacement("c", folder.catalog().collections["c"])
        made.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_that_keeps_the_lock_is_mentioned(tmp_path: Path) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    client.close()

    with EdgeClient(tmp_path) as again:
        with pytest.raises(StoreLocked, match="or in a child forked from this one"):
            again.count("c")
        os.close(writing)
        os.waitpid(child, 0)
        assert again.count("c").count == 0
