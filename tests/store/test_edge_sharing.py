"""Clients of one process share what is open in a folder; closing one leaves the other open, the last lets others in."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from forks import run_fork
from qdrant_client import models

from clip_qdrant.errors import CollectionExists, CollectionNotFound, StoreError, StoreLocked
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files.lock import FileLock

COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)


def point(i: int) -> models.PointStruct:
    return models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i})


@contextmanager
def held_elsewhere(store: Path) -> Iterator[None]:
    """The locks of all collections as another process would have them: a lock is one of its open file."""
    held = [FileLock(path, wait=False) for path in (store / "collections").glob("*.lock")]
    yield
    for lock in held:
        lock.release()


def test_a_second_client_works_as_the_first_does(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as first, EdgeClient(tmp_path) as second:
        first.create_collection("c", COSINE)
        second.upsert("c", [point(1)])
        first.upsert("c", [point(2)])

        assert first.count("c").count == second.count("c").count == 2
        with pytest.raises(CollectionExists):
            second.create_collection("c", COSINE)


def test_a_cell_that_is_run_twice_opens_the_store_again(tmp_path: Path) -> None:
    kept = []  # as a notebook keeps what was shown, and the traceback of the last error
    for run in range(3):
        client = EdgeClient(tmp_path)
        if not client.collection_exists("c"):
            client.create_collection("c", COSINE)
        client.upsert("c", [point(run)])
        kept.append(client)

    assert client.count("c").count == 3
    for one in kept:
        one.close()


@pytest.mark.parametrize("first_to_close", [0, 1])
def test_closing_one_leaves_the_other_open_and_the_last_lets_others_in(tmp_path: Path, first_to_close: int) -> None:
    clients = [EdgeClient(tmp_path), EdgeClient(tmp_path)]
    clients[0].create_collection("c", COSINE)
    clients[1].upsert("c", [point(1)])
    other = clients.pop(first_to_close)
    other.close()

    with pytest.raises(StoreError, match="is closed; make a new EdgeClient"):
        other.count("c")
    with pytest.raises(BlockingIOError), held_elsewhere(tmp_path):
        pass
    [left] = clients
    left.upsert("c", [point(2)])
    assert left.count("c").count == 2

    left.close()
    with held_elsewhere(tmp_path), EdgeClient(tmp_path) as late, pytest.raises(StoreLocked, match="another process"):
        late.count("c")
    with EdgeClient(tmp_path) as late:
        assert late.count("c").count == 2


def test_a_collection_that_only_one_client_used_is_closed_with_it(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as first:
        first.create_collection("a", COSINE)
        with EdgeClient(tmp_path) as second:
            second.create_collection("b", COSINE)

        [lock] = (tmp_path / "collections").glob("b-*.lock")
        FileLock(lock, wait=False).release()
        first.upsert("a", [point(1)])


def test_a_client_that_nobody_can_reach_does_not_keep_the_store_open(tmp_path: Path) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    circle: list[Any] = [client]
    circle.append(circle)
    client = EdgeClient(tmp_path)
    client.upsert("c", [point(1)])
    del circle

    client.close()
    with held_elsewhere(tmp_path):
        pass


def test_the_path_may_be_written_in_other_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    with EdgeClient("store") as client:
        client.create_collection("c", COSINE)
        monkeypatch.chdir(tmp_path / "elsewhere")
        for path in ("../store", tmp_path / "link", tmp_path / "elsewhere" / ".." / "store"):
            with EdgeClient(path) as other:
                other.upsert("c", [point(1)])
        client.upsert("c", [point(2)])  # its relative path counts from where it was made
        assert client.count("c").count == 2
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_collection_that_another_client_deletes_is_gone_for_both(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as first, EdgeClient(tmp_path) as second:
        first.create_collection("c", COSINE)
        first.upsert("c", [point(1)])
        assert second.delete_collection("c")

        with pytest.raises(CollectionNotFound):
            first.count("c")
        second.create_collection("c", COSINE)
        assert first.count("c").count == 0


def test_a_store_that_was_replaced_beneath_a_client_is_refused_by_all(tmp_path: Path) -> None:
    store, backup = tmp_path / "store", tmp_path / "backup"
    with EdgeClient(store) as client:
        client.create_collection("c", COSINE)
    shutil.copytree(store, backup)
    with EdgeClient(store) as first:
        first.upsert("c", [point(2)])
        shutil.rmtree(store)
        with pytest.raises(CollectionNotFound):
            first.count("c")
        shutil.copytree(backup, store)

        with EdgeClient(store) as second:
            for client in (first, second):
                with pytest.raises(StoreError, match=r"'c' .*replaced while this process had it open; start the pro"):
                    client.count("c")
            second.delete_collection("c")
            second.create_collection("c", COSINE)
            assert first.count("c").count == 0


def test_threads_open_write_and_close_clients_of_their_own(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        ready.wait(10)
        for turn in range(6):
            client = EdgeClient(tmp_path)
            client.upsert("c", [point(100 * number + turn)])
            if turn % 3:
                client.close()  # else it is left to be collected

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, number) for number in range(4)]:
            future.result(60)
    with EdgeClient(tmp_path) as client:
        assert client.count("c").count == 24


@pytest.mark.slow
def test_another_process_gets_the_lock_conflict_until_the_last_client_is_closed(tmp_path: Path) -> None:
    code = f"from clip_qdrant.store.edge.client import EdgeClient; EdgeClient({str(tmp_path)!r}).count('c')"

    def outcome() -> str:
        return run_fork(code)[2]

    first, second = EdgeClient(tmp_path), EdgeClient(tmp_path)
    first.create_collection("c", COSINE)
    second.upsert("c", [point(1)])
    first.close()
    assert "StoreLocked: collection 'c'" in outcome()
    second.close()
    assert outcome() == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("use", [lambda _, path: EdgeClient(path).count("c"), lambda client, _: client.count("c")])
def test_a_forked_child_shares_nothing(tmp_path: Path, use: Callable[[EdgeClient, Path], Any]) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                message = str(use(client, tmp_path))
            except StoreError as error:
                message = f"{type(error).__name__}: {error}"
            os.write(writing, message.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answers:
            message = answers.read()
        os.waitpid(child, 0)

        assert "fork" in message
        client.upsert("c", [point(1)])
        assert client.count("c").count == 1
