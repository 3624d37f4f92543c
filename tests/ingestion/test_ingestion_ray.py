"""A Ray cluster stores what the threads of one process store, and loses nothing when its processes die."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_server import EdgeServer
from fakes import FakeEmbedder, write_image
from PIL import Image
from qdrant_client import QdrantClient

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import dense_vector
from clip_qdrant.errors import ConfigError, MissingExtra, StoreUnavailable
from clip_qdrant.images.load import Limits
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import FolderSource, Page, Progress, Report, SourceObject, ingest
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.ray.cluster import RayCluster

pytestmark = [
    pytest.mark.slow,
    # What Ray Data says of itself, when it copies its own settings.
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
]


@pytest.fixture(scope="module", autouse=True)
def machines() -> Iterator[None]:
    """A Ray cluster of two CPUs on this machine, whose workers can import what lies beside this file."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        for place in (Path(__file__).parent, Path(__file__).parents[1] / "support"):
            patch.setenv("PYTHONPATH", str(place), prepend=os.pathsep)
        ray.init(
            "local",
            num_cpus=2,
            object_store_memory=100 * 1024 * 1024,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeServer]:
    with EdgeServer(tmp_path_factory.mktemp("server")) as server:
        yield server


class SlowSource:
    """A folder each read of which takes a while."""

    reads_at_once = 4

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = FolderSource(folder)
        self._seconds = seconds
        self.name = self._folder.name

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        return self._folder.pages(folders)

    def look(self, item: SourceObject) -> SourceObject:
        return item

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        threading.Event().wait(self._seconds)
        return self._folder.read(item, limits=limits)


def open_collection(name: str, url: str) -> ImageCollection:
    return ImageCollection(name, FakeEmbedder(), connect(url), patience=2.0)


def many_images(folder: Path, count: int, *, first: int = 0) -> Path:
    for number in range(first, first + count):
        write_image(folder / f"{number // 50}" / f"{number}.png", (number % 256, number // 256, 77))
    return folder


def counts(report: Report) -> tuple[int, int, int, int]:
    new = report.added + report.copied  # which one of two equal files is first is chance
    return (new, report.updated, report.payload_updated, report.skipped)


def points(collection: ImageCollection) -> dict[str, tuple[dict[str, Any], list[float]]]:
    found = collection.client.scroll(collection.name, limit=1000, with_payload=True, with_vectors=True)[0]
    return {
        str(point.id): ({**(point.payload or {}), "ingested_at": None}, np.asarray(dense_vector(point.vector)).tolist())
        for point in found
    }


def kill_one(title: str) -> bool:
    """Sends SIGKILL to a process of the cluster whose title has this in it."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _descends(int(folder.name)):
            words = (folder / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            if words.startswith("ray::") and title in words:
                os.kill(int(folder.name), signal.SIGKILL)
                return True
    return False


def _descends(process: int) -> bool:
    """Whether a process was started by this one, or by one that was."""
    while process > 1:
        if process == os.getpid():
            return True
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return False
        process = int(status.rpartition(")")[2].split()[1])
    return False


def test_processes_that_are_killed_lose_nothing_and_the_same_is_stored_as_by_threads(
    tmp_path: Path, server: EdgeServer
) -> None:
    photos = many_images(tmp_path / "photos", 320)
    (photos / "0" / "twin.png").write_bytes((photos / "0" / "7.png").read_bytes())
    (photos / "0" / "no image.jpg").write_bytes(b"not one")
    (photos / "0" / "half.png").write_bytes((photos / "0" / "8.png").read_bytes()[:50])
    (photos / "1" / "empty.webp").touch()
    (photos / "1" / "52.txt").write_text("the fifty-second")
    (photos / "0" / "3.json").write_text('{"caption": "three", "year": 2021}')
    (photos / "metadata.csv").write_text("file_name,caption,price\n0/1.png,one,1.5\n0/2.png,two,cheap\n")
    (photos / "0" / "metadata.jsonl").write_text('{"file_name": "4.png", "price": "none"}\n')
    opened = partial(open_collection, url=server.url)
    by_threads, by_cluster = opened("by_threads"), opened("by_cluster")
    killed: list[str] = []
    # Ray's titles: of an actor its class, of a task its operator. "Chunks" is the one that feeds the others.
    upcoming = [(20, "_load"), (60, "_Embed"), (100, "_Write"), (140, "Chunks"), (180, "_Board")]

    def kill(progress: Progress) -> None:
        if upcoming and progress.done >= upcoming[0][0] and kill_one(upcoming[0][1]):
            killed.append(upcoming.pop(0)[1])

    first = ingest(FolderSource(photos), by_threads, batch_size=8)
    with RayCluster(partial(opened, "by_cluster")) as cluster:
        second = ingest(SlowSource(photos, 0.02), by_cluster, batch_size=8, cluster=cluster, progress=kill)
    assert killed == ["_load", "_Embed", "_Write", "Chunks", "_Board"]
    assert second.quarantined == first.quarantined
    assert {row.reason for row in second.quarantined} >= {"not an image", "truncated", "empty"}
    assert counts(second) == counts(first) == (321, 0, 0, 0)
    assert points(by_cluster) == points(by_threads)
    assert set(second.stages) == {"plan", "read", "decode", "embed", "write"}


def test_a_stop_finishes_what_is_in_hand_and_the_next_run_goes_on_from_there(
    tmp_path: Path, server: EdgeServer
) -> None:
    photos = many_images(tmp_path / "photos", 60)
    (photos / "1" / "52.txt").write_text("the fifty-second")
    opened = partial(open_collection, url=server.url)
    by_threads, by_cluster, stop = opened("changed_by_threads"), opened("changed_by_cluster"), threading.Event()
    for collection in (by_threads, by_cluster):
        ingest(FolderSource(photos), collection)
    (photos / "1" / "52.txt").write_text("still the fifty-second")
    write_image(photos / "1" / "53.png", "white", (40, 30))
    many_images(photos, 200, first=60)
    noise = Image.fromarray(np.random.default_rng(5).integers(0, 255, (8, 8, 3), np.uint8)).resize((200, 200))
    for number in range(4):
        noise.save(photos / "0" / f"near {number}.jpg", quality=90 + number)

    def stop_when_seen(progress: Progress) -> None:
        if progress.done >= 140 and (progress.updated, progress.payload_updated, progress.duplicates) == (1, 1, 3):
            stop.set()

    source = SlowSource(photos, 0.02)
    first = ingest(
        source,
        by_cluster,
        batch_size=2,  # so that the near-duplicates are in two, which go through the stages at once
        dedupe="skip",
        cluster=RayCluster(partial(opened, "changed_by_cluster")),
        progress=stop_when_seen,
        stop=stop,
    )
    assert (first.interrupted, first.quarantined) == (True, ())
    assert (first.updated, first.payload_updated, first.duplicates) == (1, 1, 3)
    assert 10 < first.added < 201
    assert by_cluster.count() == 60 + first.added
    second = ingest(source, by_cluster, dedupe="skip")
    assert (first.added + second.added, second.updated, second.interrupted) == (201, 0, False)
    ingest(source, by_threads, dedupe="skip")
    # Which one of those that are nearly alike comes first is chance.
    [stored, expected] = [
        {key: point for key, point in points(each).items() if "/near" not in point[0]["uri"]}
        for each in (by_cluster, by_threads)
    ]
    assert stored == expected


def test_a_store_that_goes_away_ends_the_run_as_it_does_without_a_cluster(tmp_path: Path) -> None:
    source = SlowSource(many_images(tmp_path / "photos", 200), 0.02)
    with EdgeServer(tmp_path / "server") as server:
        opened = partial(open_collection, "photos", server.url)
        collection = opened()

        def then_kill(progress: Progress) -> None:
            if progress.done >= 10:
                server.kill()

        with pytest.raises(StoreUnavailable, match="run it again to go on"):
            ingest(source, collection, batch_size=4, cluster=RayCluster(opened), progress=then_kill)
        server.restart()
        assert ingest(source, collection).quarantined == ()
        assert collection.count() == 200


def open_in_memory() -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), QdrantClient(":memory:"))


def open_in_folder(folder: Path) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), EdgeClient(folder))


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_worker_refuses_every_kind_of_embedded_store(tmp_path: Path, where: str) -> None:
    from clip_qdrant_ingestion.ray.chunk_worker import ChunkWorker, Job

    opened = open_in_memory if where == "memory" else partial(open_in_folder, tmp_path / "store")
    job = Job("run", None, FolderSource(tmp_path), opened, IngestOptions(), compare=False)
    with pytest.raises(ConfigError, match=r"is in an embedded store; .*run a Qdrant server"):
        ChunkWorker(job)


def test_a_source_that_cannot_be_sent_to_the_workers_is_refused_by_name(tmp_path: Path, server: EdgeServer) -> None:
    class Locked(SlowSource):
        def __init__(self) -> None:
            super().__init__(many_images(tmp_path / "photos", 1), 0)
            self.lock = threading.Lock()

    opened = partial(open_collection, "locked", server.url)
    with pytest.raises(ConfigError, match=r"Locked object .* cannot be sent to the workers"):
        ingest(Locked(), opened(), cluster=RayCluster(opened))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"clip-qdrant\[ray\]"):
        RayCluster(open_in_memory)


def test_more_gpus_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match="the Ray cluster has 0 GPUs"):
        RayCluster(open_in_memory, gpus_per_embedder=1)
