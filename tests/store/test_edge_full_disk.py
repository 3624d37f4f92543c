"""A full disk is told before the engine writes, with the numbers, and leaves all as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import FakeEmbedder, MadeSource
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import StoreFull
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.files import room
from clip_qdrant_ingestion import ingest

COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)
ALL = models.Filter()
ROOM = room._RESERVE


def points(*ids: int, text: str = "") -> list[models.PointStruct]:
    return [models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i, "text": text}) for i in ids]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is free on every disk: `free`, in bytes. None lies in memory."""
    said = SimpleNamespace(free=1 << 40)
    monkeypatch.setattr("clip_qdrant.store.edge.files.room.shutil.disk_usage", lambda _: said)
    monkeypatch.setattr(room, "_file_system", lambda _: "ext4")
    return said


# Every method of a client that writes to the disk, by its name or, where there are several ways, what comes before "+".
WRITES: dict[str, Callable[[EdgeClient], Any]] = {
    "upsert": lambda client: client.upsert("c", points(5)),
    "upload_points": lambda client: client.upload_points("c", points(5)),
    "upload_collection": lambda client: client.upload_collection("c", [[1.0, 5, 0, 0]], [{"n": 5}], [5]),
    "delete": lambda client: client.delete("c", [1]),
    "delete+filter": lambda client: client.delete("c", ALL),
    "update_vectors": lambda client: client.update_vectors("c", [models.PointVectors(id=1, vector=[0, 1.0, 0, 0])]),
    "delete_vectors": lambda client: client.delete_vectors("c", [""], points=[1]),
    "set_payload": lambda client: client.set_payload("c", {"x": 1}, points=[1]),
    "overwrite_payload": lambda client: client.overwrite_payload("c", {"x": 1}, points=ALL),
    "delete_payload": lambda client: client.delete_payload("c", ["n"], points=[1]),
    "clear_payload": lambda client: client.clear_payload("c", points_selector=[1]),
    "batch_update_points": lambda client: client.batch_update_points(
        "c", [models.DeleteOperation(delete=models.PointIdsList(points=[1]))]
    ),
    "create_payload_index": lambda client: client.create_payload_index("c", "n", "integer"),
    "create_collection": lambda client: client.create_collection("d", COSINE),
    "recreate_collection": lambda client: client.recreate_collection("d", COSINE),
    "create_vector_name": lambda client: client.create_vector_name("c", "more", VECTOR),
}
VECTOR = models.DenseVectorNameConfig(dense=models.DenseVectorConfig(size=4, distance=models.Distance.COSINE))
# Those that make room, and that write some bytes of store.json and tell by themselves when these find none.
SMALL = {
    "delete_collection",
    "delete_payload_index",
    "delete_vector_name",
    "update_collection",
    "update_collection_aliases",
}


def test_every_method_that_writes_is_known_here() -> None:
    verbs = re.compile("(upsert|upload|update|delete|set|overwrite|clear|create|recreate|batch_update)(_|$)")
    refused = re.compile("snapshot|shard_key|cluster|inference|migrate")
    writing = {name for name in vars(QdrantBase) if verbs.match(name) and not refused.search(name)}
    assert {name.partition("+")[0] for name in WRITES} | SMALL == writing


@pytest.mark.parametrize("name", WRITES)
def test_no_write_begins_on_a_disk_that_is_full(tmp_path: Path, disk: SimpleNamespace, name: str) -> None:
    write = WRITES[name]
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        client.upsert("c", points(1, 2))
        before = client.scroll("c")
        disk.free = 3 << 20

        with pytest.raises(StoreFull, match=r"has 3\.0 MiB free, and 32\.\d MiB are needed.*; make room"):
            write(client)
        assert client.scroll("c") == before
        assert client.query_points("c", query=[1.0, 0, 0, 0], limit=1).points

    with EdgeClient(tmp_path) as client:
        assert client.scroll("c") == before
        assert client.get_collection("c").payload_schema == {}
        disk.free = 1 << 40
        write(client)


def test_vectors_of_every_kind_need_room(edge_client: EdgeClient, disk: SimpleNamespace) -> None:
    rows = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    dense = {"": COSINE, "rows": COSINE.model_copy(update={"multivector_config": rows})}
    edge_client.create_collection("c", dense, {"words": models.SparseVectorParams()})
    large: list[dict[str, Any]] = [
        {"rows": [[1.0, 0, 0, 0]] * 50_000},
        {"words": models.SparseVector(indices=[*range(50_000)], values=[1.0] * 50_000)},
    ]
    for vector in large:
        for write in (
            lambda vector=vector: edge_client.upsert("c", [models.PointStruct(id=1, vector=vector)]),
            lambda vector=vector: edge_client.update_vectors("c", [models.PointVectors(id=1, vector=vector)]),
        ):
            disk.free = ROOM + (1 << 20)
            with pytest.raises(StoreFull, match=r"3[35]\.\d MiB are needed"):
                write()
            disk.free = ROOM + (8 << 20)
            write()
            edge_client.upsert("c", points(1))


def test_a_write_needs_room_by_its_size(edge_client: EdgeClient, disk: SimpleNamespace) -> None:
    edge_client.create_collection("c", COSINE)
    disk.free = ROOM + (1 << 20)
    edge_client.upsert("c", points(*range(20)))
    with pytest.raises(StoreFull):
        edge_client.upsert("c", points(*range(20, 40), text="x" * 20_000))
    with pytest.raises(StoreFull):
        edge_client.set_payload("c", {"text": "x" * 20_000}, points=ALL)
    edge_client.set_payload("c", {"text": "x" * 20_000}, points=[1])
    assert edge_client.count("c").count == 20


def test_a_collection_can_be_deleted_to_make_room(edge_client: EdgeClient, disk: SimpleNamespace) -> None:
    edge_client.create_collection("c", COSINE)
    disk.free = 0
    assert edge_client.delete_collection("c")


def test_a_run_stops_and_goes_on_when_there_is_room(edge_client: EdgeClient, disk: SimpleNamespace) -> None:
    class Filling(FakeEmbedder):
        def embed_pixels(self, pixels: Any) -> Any:
            if edge_client.collection_exists("photos") and edge_client.count("photos").count:
                disk.free = 1 << 20
            return super().embed_pixels(pixels)

    source = MadeSource(40)
    with pytest.raises(StoreFull, match=r"needed.*; \d+ images of this run are stored, run it again to go on"):
        ingest(source, ImageCollection("photos", Filling(), edge_client), batch_size=4)
    disk.free = 1 << 40
    stored = edge_client.count("photos").count
    assert 0 < stored < 40

    report = ingest(source, ImageCollection("photos", FakeEmbedder(), edge_client), batch_size=4)
    assert (report.added, report.skipped, report.quarantined) == (40 - stored, stored, ())


def test_a_store_in_memory_needs_room_to_be_opened(
    tmp_path: Path, disk: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
        client.upsert("c", points(1))
    disk.free = 3 << 20
    with EdgeClient(tmp_path) as client:
        assert client.count("c").count == 1
    monkeypatch.setattr(room, "_file_system", lambda _: "tmpfs")
    with EdgeClient(tmp_path) as client:
        with pytest.raises(StoreFull, match=r"lies in memory and has 3\.0 MiB free"):
            client.count("c")
        disk.free = 1 << 40
        assert client.count("c").count == 1


@pytest.mark.skipif(room._file_system(Path("/dev/shm")) != "tmpfs", reason="no file system in memory")
def test_what_opening_takes_of_memory_is_known_for_vectors_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    dense = {"": COSINE, "b": COSINE, "rows": COSINE.model_copy(update={"multivector_config": rows})}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with EdgeClient(folder) as client:
            client.create_collection("c", dense, {"words": models.SparseVectorParams()})
            client.upsert("c", [models.PointStruct(id=1, vector={"": [1.0] * 4, "b": [1.0] * 4, "rows": [[1.0] * 4]})])
        before = kept(folder)
        monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        with EdgeClient(folder) as client, pytest.raises(StoreFull) as refused:
            client.count("c")
        monkeypatch.undo()
        with EdgeClient(folder) as client:
            client.count("c")

        said = float(re.search(r"and ([\d.]+) MiB are needed", str(refused.value))[1])  # type: ignore[index]
        taken = (kept(folder) - before) / (1 << 20)
        assert taken > 100
        assert 0 <= said - 16 - taken < 8  # 16 MiB stay free


def kept(folder: str) -> int:
    """Bytes of the blocks of all files in a folder."""
    return sum(512 * path.stat().st_blocks for path in Path(folder).rglob("*"))


# Fills the disk but for a little, ingests until it is told that there is no room, makes room, and goes on.
PROGRAM = """
import os, pathlib, shutil, sys
sys.path.insert(0, sys.argv[2])
from fakes import FakeEmbedder, MadeSource
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import StoreFull
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import ingest

disk = pathlib.Path(sys.argv[1])

def run(number):
    with EdgeClient(disk / "store") as client:
        report = ingest(MadeSource(number), ImageCollection("photos", FakeEmbedder(), client), batch_size=8)
        return report.added, client.count("photos").count

run(1)
run(1)  # opening it again makes blocks of the holes, in memory
free = shutil.disk_usage(disk).free
(disk / "filling").write_bytes(bytes(free - (32 << 20) - 100_000))
try:
    run(200)
except StoreFull as error:
    print(error)
for _ in range(2):
    try:
        run(200)
    except StoreFull as error:
        print("again")
(disk / "filling").unlink()
print(*run(200))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 240 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=240m", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("a small disk can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full_ends_no_process(small_disk: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(small_disk), str(Path(__file__).parents[1] / "support")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    first, *again, last = ended.stdout.splitlines()
    assert "MiB free, and" in first
    assert again == ["again", "again"]
    added, stored = map(int, last.split())
    assert stored == 200
    assert 0 < added < 199
