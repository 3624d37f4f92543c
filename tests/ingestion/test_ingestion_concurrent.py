"""Runs of the same source at the same time, and parts of one, end at the collection of a single run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_server import EdgeServer
from fakes import FakeEmbedder
from ingest_process import IMAGES, RunProcess, assert_same, change, contents, make_images, run
from program import program_in

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import StoreLocked
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion import Report


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_images(tmp_path / "photos")


# A first run, and one over images that are changed, renamed, gone and described anew.
BEFORE_RUNS: list[Callable[[Path], object]] = [lambda photos: None, change]


def single_run(photos: Path, folder: Path) -> Path:
    """A store with the collection of one run."""
    with EdgeClient(folder / "single") as client:
        run(photos, ImageCollection("photos", FakeEmbedder(), client))
    return folder / "single"


def at_once(*runs: Callable[[], Report]) -> list[Report]:
    """The reports of runs that begin at the same moment, each in a thread."""
    start, reports = threading.Barrier(len(runs)), []

    def begin(one: Callable[[], Report]) -> None:
        start.wait()
        reports.append(one())

    threads = [threading.Thread(target=begin, args=(one,)) for one in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) == len(runs), "a run failed"
    return reports


def stored(reports: list[Report]) -> int:
    names = ("added", "updated", "renamed", "copied", "payload_updated")
    return sum(getattr(report, name) for report in reports for name in names)


def test_two_runs_in_one_process_share_an_embedded_store(photos: Path, edge_client: EdgeClient, tmp_path: Path) -> None:
    def one() -> Report:
        return run(photos, ImageCollection("photos", FakeEmbedder(), edge_client))

    for prepare in BEFORE_RUNS:
        prepare(photos)
        reports = at_once(one, one)
        assert all(report.quarantined == () for report in reports)
        assert_same(contents(edge_client), contents(single_run(photos, tmp_path)))


@pytest.mark.slow
def test_two_processes_share_a_server(photos: Path, edge_server: EdgeServer, tmp_path: Path) -> None:
    client = connect(edge_server.url)
    for prepare in BEFORE_RUNS:
        prepare(photos)
        processes = [RunProcess.start(photos, edge_server.url) for _ in range(2)]
        reports = [process.result() for process in processes]
        assert all(report.quarantined == () for report in reports)
        assert_same(contents(client), contents(single_run(photos, tmp_path)))


@pytest.mark.slow
def test_two_parts_at_the_same_time_are_the_whole(photos: Path, edge_server: EdgeServer, tmp_path: Path) -> None:
    client = connect(edge_server.url)
    for prepare in BEFORE_RUNS:
        prepare(photos)
        processes = [RunProcess.start(photos, edge_server.url, part=(index, 2)) for index in range(2)]
        reports = [process.result() for process in processes]
        assert all(report.quarantined == () and report.listed > 0 for report in reports)
        assert sum(report.listed for report in reports) == stored(reports)  # each image is stored by one of them
        assert_same(contents(client), contents(single_run(photos, tmp_path)))


@pytest.mark.slow
def test_a_second_process_on_an_embedded_store_is_turned_away_and_the_first_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = RunProcess.start(photos, tmp_path / "store", pauses=True)
    first.wait_until_done(4)
    with pytest.raises(StoreLocked, match="open in another process"):
        RunProcess.start(photos, tmp_path / "store").result()
    with program_in(tmp_path / "work", monkeypatch) as program:
        second = program("ingest", photos, "--collection", "photos", "--location", tmp_path / "store")
    assert second.code == 3
    assert "open in another process" in second.err
    first.go_on.set()
    report = first.result()
    assert (report.added, report.quarantined) == (IMAGES, ())
    assert_same(contents(tmp_path / "store"), contents(single_run(photos, tmp_path)))
