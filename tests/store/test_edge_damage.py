"""Damage of an embedded store is noticed when it is opened, told with the way to mend it, and mended by a repair."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEmbedder, MadeSource
from forks import start_fork
from program import program_in
from qdrant_client import models

from clip_qdrant.cli.repair import is_stored_image
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import dense_vector
from clip_qdrant.errors import CollectionNotFound, StoreDamaged, StoreError, StoreLocked
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.store.edge.repair import repair_collection
from clip_qdrant_ingestion import ingest

COSINE = models.VectorParams(size=4, distance=models.Distance.COSINE)
IMAGES = 60


def ingest_made(store: Path, number: int = IMAGES) -> int:
    with EdgeClient(store) as client:
        return ingest(MadeSource(number), ImageCollection("photos", FakeEmbedder(), client), batch_size=16).added


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was closed and opened again, so that its log does not bring back what its files have lost."""
    store = tmp_path_factory.mktemp("sound") / "store"
    assert ingest_made(store, IMAGES // 2) == IMAGES // 2
    assert ingest_made(store) == IMAGES - IMAGES // 2
    return store


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "store", copy_function=copy_with_holes))


def copy_with_holes(source: str, target: str) -> None:
    with Path(source).open("rb") as old, Path(target).open("wb") as new:
        while piece := old.read(1 << 20):
            new.seek(len(piece), os.SEEK_CUR) if piece.count(0) == len(piece) else new.write(piece)
        new.truncate(old.tell())


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    """Other ids in place of the last ones."""
    content = path.read_bytes()
    path.write_bytes(content[:-17] + bytes(16) + content[-1:])


DAMAGES = [
    ("segments/*/mutable_id_tracker.mappings", cut, "bytes, and had"),
    ("segments/*/mutable_id_tracker.mappings", Path.unlink, "mappings is gone"),
    ("segments/*/mutable_id_tracker.mappings", overwrite, "mappings is not what it was"),
    ("segments/*/mutable_id_tracker.versions", Path.unlink, "versions is gone"),
    ("segments/*/version.info", Path.unlink, "is gone"),
    ("segments/*/vector_storage/vectors/chunk_0.mmap", cut, "bytes, and had"),
    ("../*.flushed", Path.unlink, "flushed is gone"),
    ("../*.flushed", cut, "flushed, which says what was stored, cannot be read"),
]


def damage(store: Path, pattern: str, how: Callable[[Path], object]) -> None:
    [shard] = [path for path in (store / "collections").iterdir() if path.is_dir()]
    [path] = (store / "collections").glob(f"{shard.name}/{pattern}")
    how(path)


@pytest.mark.parametrize(("pattern", "how", "words"), DAMAGES)
def test_damage_is_told_when_the_collection_is_opened_and_repair_lets_ingestion_bring_what_is_missing(
    store: Path, pattern: str, how: Callable[[Path], object], words: str
) -> None:
    damage(store, pattern, how)

    for _ in range(2):  # looking changes nothing
        with EdgeClient(store) as client, pytest.raises(StoreDamaged, match=rf"'photos'.*{words}.*`clip-qdrant repair"):
            client.count("photos")
    done = repair_collection(store, "photos", is_whole=is_stored_image)
    assert done.damage is not None
    assert done.aside is not None
    assert done.aside.is_dir()

    with EdgeClient(store) as client:
        collection = ImageCollection("photos", FakeEmbedder(), client)
        assert collection.count() == done.kept <= IMAGES
        report = ingest(MadeSource(IMAGES), collection)
        assert (report.added + report.updated, report.quarantined) == (IMAGES - done.kept, ())
        assert collection.count() == collection.count("source.name = 'made'") == IMAGES
        records, _ = client.scroll("photos", limit=IMAGES, with_vectors=True)
        assert all(np.linalg.norm(dense_vector(record.vector)) == pytest.approx(1) for record in records)  # type: ignore[arg-type]
    assert repair_collection(store, "photos").damage is None


def test_what_the_engine_itself_refuses_is_told_and_mended_too(store: Path) -> None:
    damage(store, "segments/*/segment.json", lambda path: path.write_bytes(b""))

    with EdgeClient(store) as client, pytest.raises(StoreError, match="if its files are damaged, `clip-qdrant repair"):
        client.count("photos")
    done = repair_collection(store, "photos")
    assert (done.kept, done.before) == (0, IMAGES)
    assert ingest_made(store) == IMAGES


def test_points_that_are_not_as_they_were_stored_are_dropped(store: Path) -> None:
    def erase(path: Path) -> None:
        size = path.stat().st_size
        path.write_bytes(b"")
        with path.open("r+b") as file:
            file.truncate(size)

    damage(store, "segments/*/vector_storage/vectors/chunk_0.mmap", erase)

    done = repair_collection(store, "photos")
    assert done.kept == 0
    assert done.damage == f"{IMAGES} of {IMAGES} points cannot be read"
    assert ingest_made(store) == IMAGES


def test_an_image_that_has_lost_its_vector_is_dropped(store: Path) -> None:
    with EdgeClient(store) as client:
        one = client.scroll("photos", limit=1)[0][0].id
        client.delete_vectors("photos", [""], [one])

    assert repair_collection(store, "photos").damage is None  # a point may have none
    assert repair_collection(store, "photos", is_whole=is_stored_image).kept == IMAGES - 1


def test_a_sound_collection_is_left_as_it_is(store: Path) -> None:
    done = repair_collection(store, "photos")

    assert (done.kept, done.before, done.damage, done.aside) == (IMAGES, IMAGES, None, None)
    assert not (store / "damaged").exists()
    assert ingest_made(store) == 0


def test_only_a_collection_that_is_there_and_closed_can_be_repaired(store: Path) -> None:
    with pytest.raises(CollectionNotFound, match="collections here: photos"):
        repair_collection(store, "pets")
    with EdgeClient(store) as client:
        client.count("photos")
        with pytest.raises(StoreLocked):
            repair_collection(store, "photos")


def test_a_catalog_that_is_gone_is_noticed_before_anything_is_swept_away(store: Path) -> None:
    (store / "store.json").unlink()

    with EdgeClient(store) as client:
        for use in (client.get_collections, lambda: client.create_collection("other", COSINE)):
            with pytest.raises(StoreDamaged, match=r"store\.json is gone, though there are collections"):
                use()
    assert len(list((store / "collections").glob("photos-*"))) == 3


def test_a_store_that_is_made_while_another_client_looks_at_it_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Path.glob

    def make_first(folder: Path, pattern: str) -> Iterator[Path]:
        if pattern == "collections/*":  # where the reader looks once it saw no store.json
            monkeypatch.undo()
            other.create_collection("photos", COSINE)
        return look(folder, pattern)

    with EdgeClient(tmp_path) as client, EdgeClient(tmp_path) as other:
        monkeypatch.setattr(Path, "glob", make_first)
        assert client.collection_exists("photos")
    assert Path.glob is look


def test_the_command_says_what_it_found_and_what_to_do(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(store, "segments/*/mutable_id_tracker.mappings", cut)
    with program_in(tmp_path / "work", monkeypatch) as program:
        refused = program("info", "--location", store, "--json")
        done = program("repair", "--location", store, "--json")
        again = program("repair", "--location", store)
        nowhere = program("repair", "--location", "http://localhost:6333")

    assert refused.code == 3
    [row] = done.json["collections"]
    assert (done.code, row["name"], row["before"]) == (0, "photos", IMAGES)
    assert 0 < row["kept"] < IMAGES
    assert "mutable_id_tracker.mappings has" in row["damage"]
    assert Path(row["aside"]).is_dir()
    assert again.code == 0
    assert f"photos: whole, {row['kept']} images" in again.out
    assert nowhere.code == 2
    assert "a Qdrant server mends itself" in nowhere.err


# Writes and deletes with a flush every few points, and says that it has begun.
WRITER = """
import sys
from qdrant_client import models
from clip_qdrant.store.edge import points as edge
from clip_qdrant.store.edge.client import EdgeClient
edge._POINTS_A_FLUSH = 10
client = EdgeClient(sys.argv[1])
print("open", flush=True)
for n in range(int(sys.argv[2]), 10**9, 7):
    some = [models.PointStruct(id=i, vector=[1.0, i, 0, 0], payload={"n": i}) for i in range(n, n + 7)]
    client.upsert("c", some)
    client.delete("c", [n - 3])
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_leaves_nothing_that_looks_like_damage(tmp_path: Path) -> None:
    dice = random.Random(3)
    with EdgeClient(tmp_path) as client:
        client.create_collection("c", COSINE)
    for turn in range(3):
        writer = start_fork(WRITER, tmp_path, str(turn * 100_000 + 7))
        assert writer.stdout.readline() == "open\n"
        time.sleep(dice.uniform(0, 0.3))
        writer.kill()
        writer.communicate()
        with EdgeClient(tmp_path) as client:
            assert client.count("c").count > 0 or turn == 0
