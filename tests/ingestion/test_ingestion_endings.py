"""The end of a run: what is still done when all is stored, who is told of it, and what a stop there means."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_server import EdgeServer
from fakes import FakeEmbedder, MadeSource, RecordingClient, picture, write_image
from ports import unused_port
from program import Program, program_in
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion import FolderSource, Progress, ingest
from clip_qdrant_ingestion.sources.share import Share
from clip_qdrant_ingestion.state.reader import Scope
from clip_qdrant_ingestion.state.state import IngestState


def _may_unshare() -> bool:
    """Whether a process may be made the first of a PID namespace, as in a container."""
    try:
        return subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


@pytest.mark.parametrize("count", [2, 16])
def test_parts_together_delete_no_more_than_one_run_may(collection: ImageCollection, count: int) -> None:
    ingest(MadeSource(200), collection)
    left = MadeSource(40)
    assert ingest(left, collection, delete=True).refused is not None
    for index in range(count):
        part = Share(left, index, count)
        report = ingest(part, collection, delete=True, owns=part.owns)
        assert (report.deleted, report.refused is not None) == (0, True)
    assert collection.count() == 200


def test_a_stop_before_the_deletion_is_told_as_an_interrupt(collection: ImageCollection) -> None:
    ingest(MadeSource(40), collection)
    stop = threading.Event()
    client = RecordingClient(collection.client)
    client.before["scroll"] = stop.set  # the first look at what is gone
    watched = ImageCollection("photos", collection.embedder, client)  # type: ignore[arg-type]  # it passes all calls on
    report = ingest(MadeSource(38), watched, delete=True, stop=stop)
    assert (report.skipped, report.deleted, report.interrupted) == (38, 0, True)
    assert ingest(MadeSource(38), collection, delete=True).deleted == 2


def test_ctrl_c_during_the_deletion_leaves_a_report(
    collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(MadeSource(40), collection)

    def pressed(**options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(collection, "delete", pressed)
    report = ingest(MadeSource(38), collection, delete=True)
    assert (report.skipped, report.deleted, report.interrupted) == (38, 0, True)


def test_whoever_watches_is_told_while_the_stored_images_are_looked_through(
    collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(MadeSource(40), collection)
    events: list[Progress] = []
    scan, looked_at = collection.writer.scan, []

    def slow(*arguments: object, **options: object) -> Iterator[dict[str, object]]:
        for payload in scan(*arguments, **options):  # type: ignore[arg-type]
            looked_at.append(len(events))
            time.sleep(0.02)
            yield payload

    monkeypatch.setattr(collection.writer, "scan", slow)
    ingest(MadeSource(40), collection, delete=True, progress=events.append)
    assert looked_at[-1] - looked_at[0] >= 3


def test_an_image_that_equals_one_that_could_not_be_stored_is_stored(tmp_path: Path, memory_client: QdrantBase) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    picture(1).resize((120, 120)).save(folder / "b.png")

    class Broken(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            vectors = super().embed_pixels(pixels)
            return vectors if self.image_calls[1:] else vectors * np.nan  # the first is no good

    collection = ImageCollection("photos", Broken(), memory_client)
    report = ingest(FolderSource(folder), collection, dedupe="skip", workers=1, readers=1, batch_size=1)
    assert [Path(row.uri).name for row in report.quarantined] == ["a.png"]
    assert (report.added, report.duplicates, collection.count()) == (1, 0, 1)
    again = ingest(FolderSource(folder), collection, dedupe="tag")
    assert again.skipped == 1


def test_copies_without_number_cost_a_batch_two_calls(memory_client: QdrantBase) -> None:
    client = RecordingClient(memory_client)
    collection = ImageCollection("photos", FakeEmbedder(), client)  # type: ignore[arg-type]  # it passes all calls on
    content = MadeSource(1).read(next(MadeSource(1).pages()).objects[0], limits=Limits())
    collection.add([content] * 30, uris=[f"made://{number}" for number in range(30)])
    hashes = [hashlib.sha256(content).hexdigest(), "0" * 64]
    client.calls.clear()
    assert set(collection.writer.find_same_bytes(hashes)) == {hashes[0]}
    assert client.calls.count("scroll") == 2


def test_passwords_of_a_source_are_not_written_to_the_state_file(program: Program) -> None:
    outcome = program("ingest", "https://user:s3cret@127.0.0.1:9/photos/", "--patience", "0", "--allow-private")
    assert outcome.code == 5
    state = (program.folder / "qdrant-data" / "ingestion.sqlite").read_bytes()
    assert b"127.0.0.1:9" in state
    assert b"s3cret" not in state
    assert "s3cret" not in outcome.err


def test_bulk_is_refused_for_one_of_several_workers(program: Program) -> None:
    (program.folder / "photos").mkdir()
    outcome = program("ingest", "photos", "--bulk", "--shard", "0/2")
    assert outcome.code == 2
    assert "--bulk is not for one of several workers" in outcome.err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself Ctrl-C there")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_between_two_runs_of_a_watch_ends_it_with_its_code(program: Program, number: int, code: int) -> None:
    write_image(program.folder / "photos" / "a.png", "red")
    store = program.folder / "qdrant-data" / "ingestion.sqlite"

    def press() -> None:
        while not store.exists() or not _done(store):
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), number)

    threading.Thread(target=press, daemon=True).start()
    outcome = program("ingest", "photos", "--watch", "--json")
    assert outcome.code == code
    assert outcome.json["added"] == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself SIGTERM there")
def test_a_watch_whose_store_is_not_there_yet_waits_for_it(program: Program) -> None:
    write_image(program.folder / "photos" / "a.png", "red")
    port, health, said = unused_port(), unused_port(), []

    def ask(path: str) -> tuple[int, str]:
        try:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", health, timeout=30)) as connection:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
        except ConnectionRefusedError:
            return 0, ""

    def start_the_store_later() -> None:
        try:
            while "cannot be reached" not in ask("/ready")[1]:
                time.sleep(0.05)
            said.append(ask("/live"))
            with EdgeServer(program.folder / "store", port=port):
                while json.loads(ask("/progress")[1])["last"] is None:
                    time.sleep(0.05)
                said.append(ask("/ready"))
                os.kill(os.getpid(), signal.SIGTERM)
        except BaseException:
            os.kill(os.getpid(), signal.SIGTERM)
            raise

    threading.Thread(target=start_the_store_later, daemon=True).start()
    places = ("--location", f"http://127.0.0.1:{port}", "--health", str(health))
    outcome = program("ingest", "photos", "--watch", "--json", *places)
    assert said == [(200, "ok\n"), (200, "ok\n")]
    assert (outcome.code, outcome.json["added"]) == (143, 1)
    assert "the store is away and is asked again in 1 s: look for images: " in outcome.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "work",
    [
        "clip_qdrant.cli.wiring.open_embedder",
        "clip_qdrant_ingestion.cli.watch.make_change_queue",
        "clip_qdrant_ingestion.cli.run.source_place",
        "clip_qdrant_ingestion.cli.run._make_health",
    ],
)
def test_a_signal_while_it_gets_ready_ends_it_at_once(
    program: Program, monkeypatch: pytest.MonkeyPatch, work: str, number: int, code: int
) -> None:
    write_image(program.folder / "photos" / "a.png", "red")

    def load(*_: object, **__: object) -> FakeEmbedder:
        os.kill(os.getpid(), number)
        time.sleep(60)
        raise AssertionError("the signal did not end it")

    monkeypatch.setattr(work, load)
    outcome = program("ingest", "photos", "--watch")
    assert outcome.code == code
    assert "nothing was begun" in outcome.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_as_soon_as_it_is_caught_ends_it_by_its_code(
    program: Program, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    write_image(program.folder / "photos" / "a.png", "red")
    install, sent = signal.signal, list[int]()

    def install_and_send(caught: int, handler: Any) -> Any:
        before = install(caught, handler)
        if caught == signal.SIGINT and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
            time.sleep(0.1)
        return before

    monkeypatch.setattr(signal, "signal", install_and_send)
    outcome = program("ingest", "photos", "--watch")
    assert outcome.code == code
    assert "nothing was begun" in outcome.err


@pytest.mark.slow
@pytest.mark.skipif(not _may_unshare(), reason="no process may be the first of a namespace here")
def test_sigterm_is_obeyed_by_the_first_process_of_a_container_from_the_start(tmp_path: Path) -> None:
    write_image(tmp_path / "photos" / "a.png", "red")
    # Says that it runs before anything of the program is imported; then the imports take their time.
    started = f"import os, runpy, sys; print('started', flush=True); sys.argv = {['', 'photos', '--watch']!r}; "
    started += "runpy.run_module('clip_qdrant_ingestion', run_name='__main__')"
    for wait in (0.15, 1.5):
        process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", started],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "started\n"
            (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            time.sleep(wait)
            os.kill(int(first), signal.SIGTERM)
            assert process.wait(timeout=60) == 143, process.stderr.read()


def test_a_bad_file_that_is_gone_leaves_the_quarantine_of_a_folder(tmp_path: Path, collection: ImageCollection) -> None:
    folder = tmp_path / "photos"
    write_image(folder / "a.png", "red")
    (folder / "bad.png").write_bytes(b"")
    source = FolderSource(folder)
    with IngestState(":memory:") as state:
        memory = state.put_away(Scope("here", "photos", source.name), "context")
        assert ingest(source, collection, memory=memory).quarantined
        (folder / "bad.png").unlink()
        time.sleep(0.01)
        memory = state.put_away(Scope("here", "photos", source.name), "context")
        ingest(source, collection, memory=memory)
        assert state.quarantined() == []


def _done(state: Path) -> bool:
    with IngestState(state) as opened:
        return any(run.report for run in opened.runs())
