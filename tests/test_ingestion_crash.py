"""A run that is killed or interrupted at any moment is continued by the next, to the same collection.

`python tests/test_ingestion_crash.py 100` kills a hundred runs instead of the twenty of the test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, RecordingClient, write_image
from ingest_process import IMAGES, Contents, Death, RunProcess, assert_same, change, contents, make_images, run, same

from clip_qdrant.collection import ImageCollection
from clip_qdrant.edge import EdgeClient
from clip_qdrant.errors import CollectionNotFound
from clip_qdrant_ingestion import Report
from clip_qdrant_ingestion.state import IngestState

KILLS = 20


def finish(photos: Path, store: Path) -> tuple[Report, int]:
    """A run to the end: its report, and how many calls of the store it made."""
    with EdgeClient(store) as client:
        recording = RecordingClient(client)
        report = run(photos, ImageCollection("photos", FakeEmbedder(), recording), batch_size=2)  # type: ignore[arg-type]
        return report, len(recording.calls)


def found_in(store: Path) -> Contents:
    try:
        return contents(store)
    except CollectionNotFound:
        return {}


def deaths(number: int, calls: int, seed: int) -> Iterator[Death]:
    """So many, which lead together about to the end of a run of so many calls: each starts anew, with a few of them."""
    chance = random.Random(seed)
    for _ in range(number):
        yield Death(chance.randint(1, 2 * calls // number), chance.uniform(0, 0.1))


def killed_runs_lead_to_the_undisturbed_collection(folder: Path, kills: int, *, seed: int = 0) -> list[int]:
    """Kills one run after the other on the same store, finishes, compares; gives the points there after each kill."""
    photos = make_images(folder / "photos")
    _, calls = finish(photos, folder / "undisturbed")
    expected = contents(folder / "undisturbed")
    assert len(expected) == IMAGES
    found = []
    for death in deaths(kills, calls, seed):
        assert RunProcess.start(photos, folder / "killed", death=death).killed()
        points = found_in(folder / "killed")
        assert all(same(point, expected[uri]) for uri, point in points.items()), "half of an image was stored"
        found.append(len(points))
    report, _ = finish(photos, folder / "killed")
    assert (report.added, report.skipped, report.quarantined) == (IMAGES - found[-1], found[-1], ())
    assert_same(contents(folder / "killed"), expected)
    return found


def killed_updates_lead_to_the_undisturbed_collection(folder: Path, kills: int, *, seed: int = 0) -> list[int]:
    """The same for runs that change, rename and delete images; gives how many were up to date after each kill."""
    photos = make_images(folder / "photos")
    for store in ("undisturbed", "killed"):
        finish(photos, folder / store)
    before = contents(folder / "undisturbed")
    change(photos)
    _, calls = finish(photos, folder / "undisturbed")
    after = contents(folder / "undisturbed")
    assert len(after) == IMAGES * 5 // 6
    found = []
    for death in deaths(kills, calls, seed):
        assert RunProcess.start(photos, folder / "killed", death=death).killed()
        points = found_in(folder / "killed")
        assert before.keys() & after.keys() <= points.keys() <= before.keys() | after.keys()
        for uri, point in points.items():
            states = [state[uri] for state in (before, after) if uri in state]
            assert any(same(point, state) for state in states), "half of a change was stored"
        found.append(sum(uri in points and same(points[uri], point) for uri, point in after.items()))
    assert finish(photos, folder / "killed")[0].quarantined == ()
    assert_same(contents(folder / "killed"), after)
    return found


@pytest.mark.slow
def test_runs_killed_at_any_moment_are_continued_to_the_same_collection(tmp_path: Path) -> None:
    found = killed_runs_lead_to_the_undisturbed_collection(tmp_path, KILLS // 2)
    assert found == sorted(found), "an acknowledged batch was lost"
    assert len(set(found)) > KILLS // 4, f"the kills hit nothing: {found}"


@pytest.mark.slow
def test_updating_runs_killed_at_any_moment_are_continued_to_the_same_collection(tmp_path: Path) -> None:
    found = killed_updates_lead_to_the_undisturbed_collection(tmp_path, KILLS // 2)
    assert found == sorted(found), "an acknowledged batch was lost"
    assert len(set(found)) > KILLS // 4, f"the kills hit nothing: {found}"


# The program, in a process of its own, with an embedder that says when it is asked and takes its time.
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv.pop(1))
seconds = float(sys.argv.pop(1))
from fakes import FakeEmbedder
from clip_qdrant.cli import wiring
from clip_qdrant.cli.app import main

class Slow(FakeEmbedder):
    def embed_pixels(self, pixels):
        print("embedding", file=sys.stderr, flush=True)
        time.sleep(seconds)
        return super().embed_pixels(pixels)

wiring.open_embedder = lambda settings: Slow()
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(60):
        write_image(tmp_path / "photos" / f"{number:02}.png", (number, 5, 5), (8, 8))
    return tmp_path


def started(folder: Path, *, seconds: float) -> subprocess.Popen[str]:
    """The program, once it embeds its first batch."""
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(seconds), "ingest", "photos"]
    options = {"collection": "photos", "location": "store", "batch-size": "4", "state": "state.sqlite"}
    command += ["--json", *(f"--{name}={value}" for name, value in options.items())]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if line == "embedding\n":
            return process
        said.append(line)
    raise AssertionError("".join(said))


def state_of_the_last_run(folder: Path) -> tuple[str, Any]:
    with IngestState(folder / "state.sqlite") as state:
        (last, *_) = state.runs()
        return last.outcome, last.detail


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"])
def test_a_signal_finishes_the_batches_in_hand_and_the_exit_code_says_so(folder: Path, number: int, code: int) -> None:
    process = started(folder, seconds=0.3)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    report = json.loads(out)
    assert report["interrupted"] is True
    assert report["quarantined"] == []
    stored = contents(folder / "store")
    assert 0 < report["added"] == len(stored) < 60
    assert state_of_the_last_run(folder)[0] == "interrupted"
    out, errors = started(folder, seconds=0).communicate(timeout=60)
    rest = json.loads(out)
    assert (rest["added"], rest["skipped"]) == (60 - len(stored), len(stored))
    assert state_of_the_last_run(folder)[0] == "done"


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_the_batches_in_hand(folder: Path) -> None:
    process = started(folder, seconds=3600)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any("finishing the batches in hand" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert out == ""
    assert errors.endswith("interrupted\n")
    assert state_of_the_last_run(folder) == ("failed", "KeyboardInterrupt")


if __name__ == "__main__":
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    for name, killed in (
        ("points", killed_runs_lead_to_the_undisturbed_collection),
        ("points up to date", killed_updates_lead_to_the_undisturbed_collection),
    ):
        with tempfile.TemporaryDirectory() as temporary:
            print(f"{name} after each kill:", killed(Path(temporary), kills // 2, seed=kills))
