"""What EdgeClient has acknowledged survives a reopening, a crash and the death of the process."""

from __future__ import annotations

import errno
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from forks import start_fork
from qdrant_client import models

from clip_qdrant.errors import StoreError
from clip_qdrant.store.edge.client import EdgeClient

COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)

# Writes batches for ever and says after each which is the last point that it was told is stored.
WRITER = """
import sys
from qdrant_client import models
from clip_qdrant.store.edge.client import EdgeClient
client = EdgeClient(sys.argv[1])
n = int(sys.argv[2])
while True:
    ids = range(n, n + 7)
    client.upsert("c", [models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i}) for i in ids])
    n += 7
    print(n - 1, flush=True)
"""


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE, metadata={"fingerprint": "f", "fields": {"year": "integer"}})
        client.create_payload_index("c", "year", models.PayloadSchemaType.INTEGER)
        client.upsert("c", [models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"year": i}) for i in range(9)])
        client.delete("c", [0])
        client.set_payload("c", {"mark": True}, points=[1])
        new = models.CreateAlias(collection_name="c", alias_name="alias")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=new)])
        before = client.scroll("alias", with_vectors=True)

    with EdgeClient(tmp_path) as client:
        assert client.scroll("alias", with_vectors=True) == before
        assert client.count("c").count == 8
        info = client.get_collection("c")
        assert info.config.metadata == {"fingerprint": "f", "fields": {"year": "integer"}}
        assert info.payload_schema["year"].points == 8
        assert client.facet("c", "year", limit=3).hits


def test_a_client_that_was_never_closed_loses_nothing(tmp_path: Path) -> None:
    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    client.upsert("c", [models.PointStruct(id=1, vector=[1.0, 0, 0, 0])])
    del client

    with EdgeClient(tmp_path) as again:
        assert again.count("c").count == 1


@pytest.mark.slow
def test_no_acknowledged_point_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    dice = random.Random(7)
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
    acknowledged = -1
    for _ in range(4):
        writer = start_fork(WRITER, tmp_path, str(acknowledged + 1))
        assert writer.stdout.readline()
        time.sleep(dice.uniform(0.02, 0.3))
        writer.kill()
        lines = writer.communicate()[0].split()
        acknowledged = int(lines[-1]) if lines else acknowledged + 7

        with EdgeClient(tmp_path) as client:
            found = client.retrieve("c", range(acknowledged + 1), with_vectors=True)
            assert [record.payload for record in found] == [{"n": i} for i in range(acknowledged + 1)]
            assert all(record.vector for record in found)


class Crash(BaseException):
    """Stands for the death of the process at this point."""


@pytest.mark.parametrize("moment", ["before store.json is written", "before it takes the place of the old one"])
def test_a_crash_while_a_collection_is_created_leaves_a_store_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("old", COSINE)

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    client = EdgeClient(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(*((json, "dump") if moment.startswith("before store.json") else (Path, "replace")), crash)
        with pytest.raises(Crash):
            client.create_collection("new", COSINE)
    del client
    assert len([path for path in (tmp_path / "collections").iterdir() if path.is_dir()]) == 2

    with EdgeClient(tmp_path) as client:
        assert [one.name for one in client.get_collections().collections] == ["old"]
        client.create_collection("new", COSINE)
        client.upsert("new", [models.PointStruct(id=1, vector=[1.0, 0, 0, 0])])
        assert client.count("new").count == 1
    assert len([path for path in (tmp_path / "collections").iterdir() if path.is_dir()]) == 2


def test_a_crash_while_a_collection_is_deleted_leaves_a_store_that_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    client = EdgeClient(tmp_path)
    client.create_collection("c", COSINE)
    with monkeypatch.context() as patch:
        patch.setattr("clip_qdrant.store.edge.files.shard_folders.shutil.rmtree", crash)
        with pytest.raises(Crash):
            client.delete_collection("c")
    del client

    with EdgeClient(tmp_path) as client:
        assert not client.collection_exists("c")
        client.create_collection("c", COSINE)
        assert client.count("c").count == 0
    assert len([path for path in (tmp_path / "collections").iterdir() if path.is_dir()]) == 1


def test_a_deleted_collection_leaves_nothing_on_disk(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        client.delete_collection("c")

        assert list((tmp_path / "collections").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b'{"format": 2}',
        b'{"format": 2, "collections": {"c": {}}, "aliases": {}}',
        b'{"format": 2, "caf\xe9": 1}',
        b"[" * 100_000,
    ],
    ids=["cut", "a list", "without collections", "without entries", "not UTF-8", "nested"],
)
def test_a_damaged_catalog_is_reported_and_left_alone(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "store.json").write_bytes(text)

    with EdgeClient(tmp_path) as client, pytest.raises(StoreError, match=r"store\.json is damaged"):
        client.create_collection("c", COSINE)

    assert (tmp_path / "store.json").read_bytes() == text


def test_a_catalog_that_cannot_be_read_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "store.json").mkdir()

    with EdgeClient(tmp_path) as client:
        for use in (client.get_collections, lambda: client.count("c"), lambda: client.create_collection("c", COSINE)):
            with pytest.raises(StoreError, match=r"cannot read .*store\.json"):
                use()


def test_a_folder_of_collections_that_is_gone_is_a_store_error(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
    (tmp_path / "collections").rename(tmp_path / "elsewhere")

    with EdgeClient(tmp_path) as client:
        for use in (lambda: client.count("c"), lambda: client.get_collection("c"), lambda: client.delete("c", [1])):
            with pytest.raises(StoreError, match=r"cannot open collection 'c'.*No such file"):
                use()


@pytest.mark.skipif(sys.platform == "win32", reason="locks are others there")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EROFS, errno.EMFILE, errno.EACCES])
def test_a_lock_that_the_system_cannot_give_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    for what in ("os.open", "fcntl.flock"):
        with EdgeClient(tmp_path) as client, monkeypatch.context() as patch:
            patch.setattr(what, refuse)
            with pytest.raises(StoreError, match=os.strerror(number)) as caught:
                client.count("c")
        assert type(caught.value) is StoreError


def test_a_catalog_of_a_newer_version_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format": 3}')

    with EdgeClient(tmp_path) as client, pytest.raises(StoreError, match="format 3, this version reads 2; upgrade"):
        client.get_collections()


def test_a_collection_whose_folder_is_gone_is_reported_and_can_be_deleted(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
    [folder] = [path for path in (tmp_path / "collections").iterdir() if path.is_dir()]
    folder.rename(tmp_path / "elsewhere")

    with EdgeClient(tmp_path) as client:
        with pytest.raises(StoreError, match="cannot open collection 'c'"):
            client.count("c")
        assert client.delete_collection("c")


def unflushed(client: EdgeClient) -> int:
    """Points changed since the last flush of the one collection that is open."""
    [opened] = client._folder._open_shards.values()
    return opened.unflushed


def test_long_runs_are_flushed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_qdrant.store.edge.points._POINTS_A_FLUSH", 100)
    monkeypatch.setattr("clip_qdrant.store.edge.convert.changes._POINTS_AN_OPERATION", 30)
    points = [models.PointStruct(id=i, vector=[1.0, i, 0, 0]) for i in range(210)]
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        client.upload_points("c", points, batch_size=70)

        assert unflushed(client) == 70  # flushed after 140
        assert client.count("c").count == 210


@pytest.mark.parametrize(
    "change",
    [
        lambda client, i: client.set_payload("c", {"n": i}, points=[0, 1]),
        lambda client, i: client.overwrite_payload("c", {"n": i}, points=[0, 1]),
        lambda client, i: client.clear_payload("c", points_selector=[0, 1]),
        lambda client, i: client.delete_payload("c", ["n"], points=[0, 1]),
        lambda client, i: client.delete("c", [5, 6]),
    ],
)
def test_changes_of_payloads_and_deletions_are_flushed_on_the_way_too(
    edge_client: EdgeClient, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr("clip_qdrant.store.edge.points._POINTS_A_FLUSH", 10)
    edge_client.create_collection("c", COSINE)
    edge_client.upsert("c", [models.PointStruct(id=i, vector=[1.0, i, 0, 0]) for i in range(3)])
    for i in range(5):
        change(edge_client, i)

    assert unflushed(edge_client) == 2  # flushed after 3 + 4 * 2


def test_changes_by_filter_are_flushed_on_the_way_too(edge_client: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_qdrant.store.edge.points._POINTS_A_FLUSH", 3)
    edge_client.create_collection("c", COSINE)
    edge_client.set_payload("c", {"n": 1}, points=models.Filter())
    edge_client.delete("c", models.Filter())
    assert unflushed(edge_client) == 2

    edge_client.delete("c", models.Filter())
    assert unflushed(edge_client) == 0
