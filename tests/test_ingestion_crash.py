"""A run that is killed or interrupted at any moment is continued by the next, to the same collection.

`python tests/test_ingestion_crash.py 10` kills ten runs instead of the few of the test.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, write_image

from clip_qdrant.collection import ImageCollection
from clip_qdrant.edge import EdgeClient
from clip_qdrant.errors import CollectionNotFound
from clip_qdrant_ingestion import FolderSource, ingest

IMAGES = 120

# A run in a process of its own, slow enough to be hit anywhere. It prints "ready", ten times a second how many
# images are done, and what its report says.
SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from fakes import FakeEmbedder
from clip_qdrant.collection import ImageCollection
from clip_qdrant.edge import EdgeClient
from clip_qdrant_ingestion import FolderSource, ingest

class Slow(FakeEmbedder):
    def embed_pixels(self, pixels):
        time.sleep(0.15)
        return super().embed_pixels(pixels)

def tell(event):
    print(event.done, flush=True)

with EdgeClient(sys.argv[3]) as client:
    collection = ImageCollection("photos", Slow(), client)
    print("ready", flush=True)
    report = ingest(FolderSource(sys.argv[2]), collection, batch_size=4, workers=2, progress=tell)
    print(report.interrupted, report.added, report.skipped, collection.count(), flush=True)
"""


def make_images(folder: Path) -> Path:
    lines = ["file_name,caption,year"]
    for number in range(IMAGES):
        write_image(folder / f"{number % 3}" / f"{number:03}.png", (number * 2, 255 - number, 90), (12, 9))
        lines.append(f"{number % 3}/{number:03}.png,number {number},{1900 + number}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def change(photos: Path) -> None:
    """Another caption for every image, and other bytes for one in five."""
    table = photos / "metadata.csv"
    table.write_text(table.read_text().replace(",number ", ",changed "))
    for number in range(0, IMAGES, 5):
        write_image(photos / f"{number % 3}" / f"{number:03}.png", (number * 2, 255 - number, 200), (13, 9))


def start(photos: Path, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(photos), str(store)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def wait_until_done(process: subprocess.Popen[str], images: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if not line.strip().isdigit() or int(line) >= images:
            return


def contents(store: Path) -> dict[str, tuple[list[float], dict[str, Any]]]:
    """Vector and payload of every point by id; `ingested_at` is the only thing that may differ between runs."""
    with EdgeClient(store) as client:
        points, _ = client.scroll("photos", limit=10 * IMAGES, with_payload=True, with_vectors=True)
        return {
            str(point.id): (list(point.vector), {**(point.payload or {}), "ingested_at": None})  # type: ignore[arg-type]
            for point in points
        }


def finish(photos: Path, store: Path) -> None:
    with EdgeClient(store) as client:
        report = ingest(FolderSource(photos), ImageCollection("photos", FakeEmbedder(), client), batch_size=8)
        assert not report.interrupted
        assert report.added + report.payload_updated + report.updated + report.skipped == IMAGES
        assert not (report.added and report.payload_updated + report.updated)


def killed_runs_lead_to_the_undisturbed_collection(tmp_path: Path, kills: int, *, seed: int = 0) -> list[int]:
    """Kills one run after the other on the same store, finishes, compares; gives the points there after each kill."""
    photos = make_images(tmp_path / "photos")
    finish(photos, tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    assert len(expected) == IMAGES
    chance, found = random.Random(seed), []
    for number in range(kills):
        process = start(photos, tmp_path / "killed")
        assert process.stdout is not None
        if number:  # the first is killed while the collection is being made
            wait_until_done(process, IMAGES * number // kills)
        time.sleep(chance.uniform(0, 0.2 if number else 0.8))
        process.kill()
        process.communicate()
        try:
            found.append(len(contents(tmp_path / "killed")))
        except CollectionNotFound:
            found.append(0)
    finish(photos, tmp_path / "killed")
    assert contents(tmp_path / "killed") == expected
    return found


def killed_updates_lead_to_the_undisturbed_collection(tmp_path: Path, kills: int, *, seed: int = 0) -> list[int]:
    """The same for runs that write stored images anew; gives how many of them were found changed after each kill."""
    photos = make_images(tmp_path / "photos")
    for store in ("undisturbed", "killed"):
        finish(photos, tmp_path / store)
    before = contents(tmp_path / "undisturbed")
    change(photos)
    finish(photos, tmp_path / "undisturbed")
    after = contents(tmp_path / "undisturbed")
    chance, found = random.Random(seed), []
    for number in range(kills):
        process = start(photos, tmp_path / "killed")
        wait_until_done(process, IMAGES * (number + 1) // (kills + 1))
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.communicate()
        points = contents(tmp_path / "killed")
        assert points.keys() == before.keys()
        assert all(point in (before[key], after[key]) for key, point in points.items()), "half of a change was stored"
        found.append(sum(point == after[key] for key, point in points.items()))
    finish(photos, tmp_path / "killed")
    assert contents(tmp_path / "killed") == after
    return found


@pytest.mark.slow
def test_updating_runs_killed_at_any_moment_are_continued_to_the_same_collection(tmp_path: Path) -> None:
    found = killed_updates_lead_to_the_undisturbed_collection(tmp_path, kills=3)
    assert found == sorted(found), "an acknowledged batch was lost"
    assert 0 < found[0] < found[-1] < IMAGES, f"the kills hit nothing: {found}"


@pytest.mark.slow
def test_runs_killed_at_any_moment_are_continued_to_the_same_collection(tmp_path: Path) -> None:
    found = killed_runs_lead_to_the_undisturbed_collection(tmp_path, kills=4)
    assert found == sorted(found), "an acknowledged batch was lost"
    assert len(set(found)) > 2, f"the kills hit nothing: {found}"


@pytest.mark.slow
def test_ctrl_c_finishes_the_batches_in_hand_and_says_so(tmp_path: Path) -> None:
    photos, store = make_images(tmp_path / "photos"), tmp_path / "store"
    process = start(photos, store)
    wait_until_done(process, 8)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    interrupted, added, skipped, count = output.splitlines()[-1].split()
    assert interrupted == "True"
    assert int(added) == int(count)
    assert int(added) % 4 == 0
    assert skipped == "0"
    assert 0 < int(added) < IMAGES
    finish(photos, store)
    assert len(contents(store)) == IMAGES


if __name__ == "__main__":
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for name, killed in (
        ("points", killed_runs_lead_to_the_undisturbed_collection),
        ("changed points", killed_updates_lead_to_the_undisturbed_collection),
    ):
        with tempfile.TemporaryDirectory() as folder:
            print(f"{name} after each kill:", killed(Path(folder), kills, seed=kills))
