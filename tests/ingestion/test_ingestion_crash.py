"""A run that is killed or interrupted at any moment is continued by the next, to the same collection.

With tests/support in PYTHONPATH, `python tests/ingestion/test_ingestion_crash.py 100` kills a hundred runs, not twelve.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, RecordingClient, write_image
from forks import Fork, start_fork
from ingest_process import Contents, Death, RunProcess, assert_same, change, contents, make_images, run, same

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import CollectionNotFound
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion.state.state import IngestState

KILLS = 12


def finish(photos: Path, store: Path) -> int:
    """A run to the end; gives how many calls of the store it made."""
    with EdgeClient(store) as client:
        recording = RecordingClient(client)
        report = run(photos, ImageCollection("photos", FakeEmbedder(), recording), batch_size=2)  # type: ignore[arg-type]
        assert (report.quarantined, report.refused, report.interrupted) == ((), None, False)
        return len(recording.calls)


def found_in(store: Path) -> Contents:
    try:
        return contents(store)
    except CollectionNotFound:
        return {}


def killed_runs(photos: Path, folder: Path, start: Path, kills: int, *, seed: int = 0) -> list[list[int]]:
    """Kills runs on copies of the store `start`, one after the other until one comes to its end, then anew.

    Whatever is killed, the next run ends at the same collection. Gives how many images were up to date after each kill.
    """
    before = found_in(start)
    shutil.copytree(start, folder / "undisturbed")
    calls = finish(photos, folder / "undisturbed")
    after = contents(folder / "undisturbed")
    chance, left = random.Random(seed), kills
    rounds: list[list[int]] = []
    while left:
        store, found = folder / f"killed-{len(rounds)}", [0]
        shutil.copytree(start, store)
        while left:
            death = Death(chance.randint(1, calls // 3), chance.uniform(0, 0.1))
            if not RunProcess.start(photos, store, death=death).killed():
                break
            left -= 1
            points = found_in(store)
            assert before.keys() & after.keys() <= points.keys() <= before.keys() | after.keys()
            for uri, point in points.items():
                states = [state[uri] for state in (before, after) if uri in state]
                assert any(same(point, state) for state in states), "half of a change was stored"
            found.append(sum(uri in points and same(points[uri], point) for uri, point in after.items()))
            assert found == sorted(found), "an acknowledged batch was lost"
        finish(photos, store)
        assert_same(contents(store), after)
        rounds.append(found[1:])
    return rounds


def killed_first_runs(folder: Path, kills: int, *, seed: int = 0) -> list[list[int]]:
    (folder / "empty").mkdir()
    return killed_runs(make_images(folder / "photos"), folder, folder / "empty", kills, seed=seed)


def killed_updates(folder: Path, kills: int, *, seed: int = 0) -> list[list[int]]:
    """Of images of which some are changed, some renamed, some gone, and all described anew."""
    photos = make_images(folder / "photos")
    finish(photos, folder / "before")
    change(photos)
    return killed_runs(photos, folder, folder / "before", kills, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [killed_first_runs, killed_updates])
def test_runs_killed_at_any_moment_are_continued_to_the_same_collection(
    tmp_path: Path, killed: Callable[[Path, int], list[list[int]]]
) -> None:
    rounds = killed(tmp_path, KILLS // 2)
    assert len({number for found in rounds for number in found}) > KILLS // 5, f"the kills hit nothing: {rounds}"


# The program, in a process of its own, with an embedder that says when it is asked and takes its time.
PROGRAM = """
import sys, time
seconds = float(sys.argv.pop(1))
from fakes import FakeEmbedder
from clip_qdrant.cli import wiring
from clip_qdrant.cli import main

class Slow(FakeEmbedder):
    def embed_pixels(self, pixels):
        sys.stderr.write("embedding\\n")  # in one piece: there are two threads of these
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


def started(folder: Path, *, seconds: float) -> Fork:
    """The program, once it embeds its first batch."""
    options = {"collection": "photos", "location": "store", "batch-size": "4", "state": "state.sqlite"}
    arguments = ["ingest", "photos", "--json", *(f"--{name}={value}" for name, value in options.items())]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLIP_QDRANT_")}
    process = start_fork(PROGRAM, str(seconds), *arguments, cwd=folder, env=kept)
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
    os.kill(process.pid, number)
    out, errors = process.communicate()
    assert process.returncode == code, errors
    report = json.loads(out)
    assert report["interrupted"] is True
    assert report["quarantined"] == []
    stored = contents(folder / "store")
    assert 0 < report["added"] == len(stored) < 60
    assert state_of_the_last_run(folder)[0] == "interrupted"
    out, errors = started(folder, seconds=0).communicate()
    rest = json.loads(out)
    assert (rest["added"], rest["skipped"]) == (60 - len(stored), len(stored))
    assert state_of_the_last_run(folder)[0] == "done"


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_the_batches_in_hand(folder: Path) -> None:
    process = started(folder, seconds=3600)
    os.kill(process.pid, signal.SIGINT)
    assert any("finishing the batches in hand" in line for line in process.stderr)
    os.kill(process.pid, signal.SIGINT)
    out, errors = process.communicate()
    assert process.returncode == 130, errors
    assert out == ""
    assert errors.endswith("interrupted\n")
    assert state_of_the_last_run(folder) == ("failed", "KeyboardInterrupt")


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    for killed in (killed_first_runs, killed_updates):
        with tempfile.TemporaryDirectory() as temporary:
            rounds = killed(Path(temporary), number // 2, seed=number)
            print(f"{killed.__name__}: images up to date after each kill: {rounds}", flush=True)
