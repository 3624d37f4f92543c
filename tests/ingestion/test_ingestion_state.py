"""The state file: what runs put away and reported, kept for the next ones, whoever else is at it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from forks import FORKS, run_fork, start_fork
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models

from clip_qdrant.errors import StateError
from clip_qdrant.images.load import Limits
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant_ingestion.run.report import Duplicate, Quarantined, Report, StageTime
from clip_qdrant_ingestion.sources.protocol import SourceObject
from clip_qdrant_ingestion.state.reader import ReasonCount, Scope
from clip_qdrant_ingestion.state.state import IngestState, context_of, default_state_path

SCOPE = Scope("http://localhost:6333", "photos", "s3://bucket")
BAD = Quarantined("s3://bucket/a.jpg", "truncated", "it ends early", True, size=10, mtime=1.5)
HERE = SourceObject("s3://bucket/a.jpg", "a.jpg", size=10, mtime=1.5)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[IngestState]:
    with IngestState(tmp_path / "state.sqlite") as state:
        yield state


IMPORTS = f"""
import os, sys
from clip_qdrant_ingestion.run.report import Quarantined
from clip_qdrant_ingestion.state.reader import Scope
from clip_qdrant_ingestion.state.state import IngestState
scope = Scope{(SCOPE.location, SCOPE.collection, SCOPE.source)}
"""


def test_what_was_quarantined_for_good_and_has_not_changed_is_known(state: IngestState) -> None:
    state.put_away(SCOPE, "context").put([BAD])

    assert state.put_away(SCOPE, "context").known([HERE, replace(HERE, uri="s3://bucket/b.jpg")]) == {BAD.uri: BAD}


def test_a_duplicate_that_was_left_out_is_known_with_its_first(state: IngestState) -> None:
    row = Duplicate(HERE.uri, "s3://bucket/first.jpg", size=10, mtime=1.5)
    state.put_away(SCOPE, "context").put([row])

    assert state.put_away(SCOPE, "context").known([HERE]) == {HERE.uri: row}
    assert state.quarantined() == []
    assert [(each.uri, each.first) for each in state.left_out(SCOPE)] == [(row.uri, row.first)]


def test_what_may_pass_by_itself_is_not_known_but_reported(state: IngestState) -> None:
    state.put_away(SCOPE, "context").put([replace(BAD, reason="unreadable", permanent=False)])

    assert state.put_away(SCOPE, "context").known([HERE]) == {}
    assert [(row.uri, row.reason, row.permanent) for row in state.quarantined()] == [(BAD.uri, "unreadable", False)]


@pytest.mark.parametrize("field", ["location", "collection", "source"])
def test_what_another_scope_put_away_is_not_known(state: IngestState, field: str) -> None:
    state.put_away(replace(SCOPE, **{field: "another"}), "context").put([BAD])

    assert state.put_away(SCOPE, "context").known([HERE]) == {}


def test_what_was_put_away_under_other_limits_is_not_known(state: IngestState) -> None:
    state.put_away(SCOPE, context_of(Limits(max_bytes=10))).put([BAD])

    assert state.put_away(SCOPE, context_of(Limits(max_bytes=10))).known([HERE])
    assert state.put_away(SCOPE, context_of(Limits(max_bytes=20))).known([HERE]) == {}
    assert state.put_away(SCOPE, context_of(Limits(max_bytes=10), "price: float")).known([HERE]) == {}


@pytest.mark.parametrize(
    ("then", "now", "unchanged"),
    [
        ({"etag": "x"}, {"etag": "x"}, True),
        ({"etag": "x"}, {"etag": "y"}, False),
        ({"etag": "x", "size": 1, "mtime": 2.0}, {"etag": "x", "size": 1, "mtime": 3.0}, True),
        ({"etag": "x", "size": 1, "mtime": 2.0}, {"etag": "y", "size": 1, "mtime": 2.0}, False),
        ({"etag": "x", "size": 1, "mtime": 2.0}, {"size": 1, "mtime": 2.0}, True),
        ({"size": 1, "mtime": 2.0}, {"size": 1, "mtime": 2.0}, True),
        ({"size": 1, "mtime": 2.0}, {"size": 1, "mtime": 2}, True),
        ({"size": 1, "mtime": 1764021600.123456}, {"size": 1, "mtime": 1764021600.1234562}, True),
        ({"size": 1, "mtime": 2.0}, {"size": 2, "mtime": 2.0}, False),
        ({"size": 1, "mtime": 2.0}, {"size": 1, "mtime": 2.001}, False),
        ({"size": 1, "mtime": 2.0}, {"size": 1}, False),
        ({"size": 1}, {"size": 1}, False),
        ({"size": 1}, {"size": 1, "mtime": 2.0}, False),
        ({}, {}, False),
    ],
)
def test_whether_an_object_has_changed(
    state: IngestState, then: Mapping[str, object], now: Mapping[str, object], unchanged: bool
) -> None:
    state.put_away(SCOPE, "context").put([Quarantined("uri", "empty", "no bytes", True, **then)])

    assert bool(state.put_away(SCOPE, "context").known([SourceObject("uri", "name", **now)])) is unchanged


def test_a_page_of_more_uris_than_one_query_takes_is_looked_up(state: IngestState) -> None:
    rows = [replace(BAD, uri=f"uri {number}") for number in range(2500)]
    state.put_away(SCOPE, "context").put(rows)

    known = state.put_away(SCOPE, "context").known([replace(HERE, uri=row.uri) for row in rows])

    assert known == {row.uri: row for row in rows}
    assert state.put_away(SCOPE, "context").known([]) == {}


def test_what_is_tried_again_keeps_its_start_and_counts(state: IngestState) -> None:
    state.put_away(SCOPE, "context").put([BAD])
    (first,) = state.quarantined()
    state.put_away(SCOPE, "another context").put([replace(BAD, reason="empty", detail="no bytes", size=0)])

    (again,) = state.quarantined()

    assert (again.reason, again.detail, again.attempts) == ("empty", "no bytes", 2)
    assert again.first_seen == first.first_seen
    assert again.last_seen >= first.last_seen


def test_what_is_settled_is_gone_in_its_scope_only(state: IngestState) -> None:
    elsewhere = replace(SCOPE, collection="others")
    for scope in (SCOPE, elsewhere):
        state.put_away(scope, "context").put([BAD, replace(BAD, uri="another")])
    state.put_away(SCOPE, "context").settle([BAD.uri, "never heard of"])

    assert [row.uri for row in state.quarantined(SCOPE)] == ["another"]
    assert len(state.quarantined(elsewhere)) == 2


def test_settling_what_is_not_there_does_not_wait_for_another_writer(state: IngestState, tmp_path: Path) -> None:
    state.put_away(SCOPE, "context").put([BAD])
    other = sqlite3.connect(state.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        state.put_away(SCOPE, "context").settle([f"uri {number}" for number in range(64)])  # would wait 30 s to write
        assert state.put_away(SCOPE, "context").known([HERE])
    finally:
        other.close()


def test_what_was_left_out_because_of_an_image_is_released_with_it(state: IngestState) -> None:
    state.put_away(SCOPE, "context").put([Duplicate("b", "a"), Duplicate("c", "a"), Duplicate("e", "d")])
    state.put_away(SCOPE, "context").release(["a"])

    assert [row.uri for row in state.left_out()] == ["e"]


def test_what_a_whole_run_did_not_meet_is_taken_out(state: IngestState) -> None:
    state.put_away(SCOPE, "context").put([replace(BAD, uri=uri) for uri in ("gone", "still bad", "bad again")])
    state.put_away(replace(SCOPE, source="another"), "context").put([BAD])
    time.sleep(0.01)
    later = state.put_away(SCOPE, "context")
    later.keep(["still bad", "never heard of"])
    later.put([replace(BAD, uri="bad again")])
    later.settle_unmet()

    assert {(row.uri, row.attempts) for row in state.quarantined(SCOPE)} == {("still bad", 1), ("bad again", 2)}
    assert len(state.quarantined()) == 3


@given(uri=st.text(), detail=st.text(st.characters()), reason=st.text(max_size=5))
def test_any_text_comes_back(uri: str, detail: str, reason: str) -> None:
    with IngestState(":memory:") as state:
        row = Quarantined(uri, reason, detail, True, "etag")
        state.put_away(SCOPE, "context").put([row])

        known = state.put_away(SCOPE, "context").known([SourceObject(uri, "name", etag="etag")])

        assert known == {uri: replace(row, detail=detail.encode("utf-8", "backslashreplace").decode())}
        assert [failure.uri for failure in state.quarantined(reason=reason)] == [uri]
        state.put_away(SCOPE, "context").settle([uri])
        assert state.quarantined() == []


def test_names_that_are_no_utf8_do_not_stop_a_run(state: IngestState) -> None:
    row = Quarantined("file:///\udcff.jpg", "empty", "\udcff.jpg has no bytes", True, "etag")
    state.put_away(SCOPE, "context").put([row])

    assert list(state.put_away(SCOPE, "context").known([SourceObject(row.uri, "name", etag="etag")])) == [row.uri]
    assert state.quarantined()[0].detail == "\\udcff.jpg has no bytes"


def test_a_run_is_reported_with_its_counts_and_stages(state: IngestState) -> None:
    run = state.start(SCOPE, {"dedupe": "skip", "state": Path("x")})
    stages = {"decode": StageTime(9.0, 1, 0.9), "embed": StageTime(5.0, 1, 0.5)}
    state.finish(run, Report(listed=3, added=2, quarantined=(BAD,), seconds=10.0, stages=stages))

    (told,) = state.runs()

    assert (told.number, told.scope, told.outcome, told.detail) == (run, SCOPE, "done", None)
    assert told.pid == os.getpid()
    assert told.options == {"dedupe": "skip", "state": "x"}
    assert told.finished_at is not None
    assert told.finished_at >= told.started_at
    assert told.report is not None
    assert (told.report["listed"], told.report["added"], told.report["quarantined"]) == (3, 2, 1)
    assert told.report["reasons"] == {"truncated": 1}
    assert told.report["bottleneck"] == "decode"
    assert told.report["stages"]["decode"]["share"] == 0.9


def test_how_a_run_ended_is_its_outcome(state: IngestState) -> None:
    state.finish(state.start(SCOPE, {}), Report(interrupted=True))
    state.finish(state.start(SCOPE, {}), Report(refused="it would delete 90 %"))
    state.fail(state.start(SCOPE, {}), "no answer from the store")
    state.start(SCOPE, {})

    told = [(run.outcome, run.detail) for run in state.runs()]

    assert told[1:] == [
        ("failed", "no answer from the store"),
        ("refused", "it would delete 90 %"),
        ("interrupted", None),
    ]
    assert told[0][0] == "unfinished"
    assert f"process {os.getpid()} on" in str(told[0][1])
    assert state.runs()[0].finished_at is None


def test_the_last_thousand_runs_are_kept(state: IngestState) -> None:
    numbers = [state.start(SCOPE, {}) for _ in range(1005)]

    assert [run.number for run in state.runs(limit=2000)] == numbers[:4:-1]
    assert [run.number for run in state.runs(limit=2)] == numbers[:-3:-1]


def test_reading_chooses_by_scope_source_reason_and_page(state: IngestState) -> None:
    other = Scope("http://localhost:6333", "photos", "file:///home/me")
    state.put_away(SCOPE, "context").put([replace(BAD, uri=f"uri {number}") for number in range(5)])
    state.put_away(other, "context").put([replace(BAD, reason="empty")])
    state.put_away(other, "context").put([Duplicate("d", "c")])
    for scope in (SCOPE, other):
        state.start(scope, {})

    assert state.counts_by_reason() == [ReasonCount("truncated", 5), ReasonCount("empty", 1)]
    assert state.counts_by_reason(other) == state.counts_by_reason(source="home") == [ReasonCount("empty", 1)]
    assert [row.uri for row in state.quarantined(SCOPE, limit=2)] == ["uri 0", "uri 1"]
    assert [row.scope for row in state.quarantined(reason="empty")] == [other]
    assert len(state.quarantined(source="s3://")) == 5
    assert [run.scope for run in state.runs()] == [other, SCOPE]
    assert [run.scope for run in state.runs(scope=SCOPE)] == [run.scope for run in state.runs(source="s3")] == [SCOPE]
    assert state.left_out(SCOPE) == []
    assert len(state.left_out(source="me")) == 1


def test_a_scope_has_an_absolute_folder_or_a_url_without_its_password(tmp_path: Path) -> None:
    assert Scope.of("data", "c", "s").location == str(Path("data").absolute())
    assert Scope.of("https://me:secret@host:6333", "c", "s").location == "https://***@host:6333"
    assert Scope.of(":memory:", "c", "s").location == ":memory:"


def test_where_the_file_is_follows_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))

    assert default_state_path("./data", None, None) == Path("data/ingestion.sqlite")
    assert default_state_path("./data", tmp_path, Path("my.sqlite")) == Path("my.sqlite")
    assert default_state_path("http://localhost:6333", tmp_path, None) == tmp_path / "ingestion.sqlite"
    assert default_state_path(":memory:", tmp_path, None) == tmp_path / "ingestion.sqlite"
    if sys.platform == "linux":
        path = default_state_path("https://host", None, None)
        assert path == tmp_path / "caches" / "clip-qdrant" / "ingestion.sqlite"


def test_an_embedded_store_does_not_mind_the_file_in_its_folder(tmp_path: Path) -> None:
    store = tmp_path / "store"
    parameters = models.VectorParams(size=2, distance=models.Distance.COSINE)
    with IngestState(default_state_path(str(store), None, None)) as state:
        state.put_away(SCOPE, "context").put([BAD])
        for name in ("first", "second"):  # the second in a store that is there already
            client = EdgeClient(store)
            client.create_collection(name, vectors_config=parameters)
            client.upsert(name, [models.PointStruct(id=1, vector=[1.0, 0.0])])
            client.close()

        client = EdgeClient(store)
        assert client.count("first").count == client.count("second").count == 1
        client.close()
        assert len(state.quarantined()) == 1


def test_threads_share_a_state(state: IngestState) -> None:
    def work(worker: int) -> None:
        for number in range(50):
            row = replace(BAD, uri=f"{worker}/{number}")
            state.put_away(SCOPE, "context").put([row])
            assert state.put_away(SCOPE, "context").known([replace(HERE, uri=row.uri)]) == {row.uri: row}
            if number % 2:
                state.put_away(SCOPE, "context").settle([row.uri])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(state.quarantined()) == 8 * 25


def write_to_each(folder: Path, worker: int, all_ready: Barrier) -> None:
    all_ready.wait()
    for file in range(10):
        with IngestState(folder / f"{file}.sqlite") as state:
            for number in range(5):
                uris = [f"{worker}/{number}", "of all"]
                state.put_away(SCOPE, "context").put([Quarantined(uri, "empty", "", True) for uri in uris])


def test_processes_that_open_new_files_at_once_all_write_to_them(tmp_path: Path) -> None:
    folder, all_ready = tmp_path / "deep" / "down", FORKS.Barrier(6)
    workers = [FORKS.Process(target=write_to_each, args=(folder, number, all_ready)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0

    for file in range(10):
        with IngestState(folder / f"{file}.sqlite") as state:
            rows = {row.uri: row.attempts for row in state.quarantined()}
        assert rows.pop("of all") == 6 * 5
        assert rows == {f"{worker}/{number}": 1 for worker in range(6) for number in range(5)}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "state = IngestState(sys.argv[1])\n"
        "run = state.start(scope, {})\n"
        "for number in range(1_000_000):\n"
        "    state.put_away(scope, 'context').put([Quarantined(f'{os.getpid()}/{number}', 'empty', '', True)])\n"
        "    print(os.getpid(), number, flush=True)\n"
    )
    path = tmp_path / "state.sqlite"
    acknowledged = {}
    for lines in (1, 40, 700):
        worker = start_fork(IMPORTS + code, path)
        for _ in range(lines):
            worker.stdout.readline()
        worker.kill()
        said, _ = worker.communicate()
        acknowledged[worker.pid] = lines + said.count("\n")

    with IngestState(path) as state:
        uris = {row.uri for row in state.quarantined()}
        runs = state.runs()
    assert {f"{pid}/{number}" for pid, count in acknowledged.items() for number in range(count)} <= uris
    assert {run.pid for run in runs} == set(acknowledged)
    assert {run.outcome for run in runs} == {"unfinished"}


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE")
def test_a_disk_that_takes_no_more_is_told_and_what_was_written_stays(tmp_path: Path) -> None:
    code = (
        "import resource, signal\n"
        "from clip_qdrant.errors import StateError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "state = IngestState(sys.argv[1])\n"
        "state.put_away(scope, 'context').put([Quarantined('early', 'empty', '', True)])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n"
        "    for number in range(100):\n"
        "        state.put_away(scope, 'context').put([Quarantined(f'late {number}', 'empty', 'x' * 10_000, True)])\n"
        "except StateError as error:\n"
        "    print(error)\n"
        "print(state.quarantined(limit=1_000)[-1].uri)\n"
    )
    _, said, errors = run_fork(IMPORTS + code, tmp_path / "state.sqlite")

    message, uri = said.splitlines()
    assert errors == ""
    assert message.startswith(f"cannot write the state file {tmp_path / 'state.sqlite'}: ")
    assert "disk" in message
    assert uri == "early"
    with IngestState(tmp_path / "state.sqlite") as state:
        assert "early" in {row.uri for row in state.quarantined()}


def test_a_full_disk_is_told_and_the_next_write_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with IngestState(tmp_path / "state.sqlite") as state:
        with state._file.reading() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages}")
        large = [replace(BAD, uri=str(number), detail="x" * 1000) for number in range(100)]
        with pytest.raises(StateError, match=r"cannot write .*disk is full; make room on its disk"):
            state.put_away(SCOPE, "context").put(large)
        with state._file.reading() as connection:
            connection.execute("PRAGMA max_page_count = 1000000")
        state.put_away(SCOPE, "context").put(large)

        assert len(state.quarantined()) == 100


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    IngestState(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()

    with pytest.raises(StateError, match="has version 7, this clip-qdrant reads 1; upgrade clip-qdrant"):
        IngestState(path)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy milk\n" * 1000)

    with pytest.raises(StateError, match=r"not a database; it is no state file; name another one \(--state\)"):
        IngestState(path)
    assert path.read_text() == "buy milk\n" * 1000


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cookies.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cookies (name TEXT)")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(StateError, match="another program"):
        IngestState(path)
    assert path.read_bytes() == before


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="unable to open database file; look whether"):
        IngestState(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StateError, match=r"cannot make the folder of the state file .*; name another file"):
        IngestState(tmp_path / "file" / "state.sqlite")


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that nobody may write")
def test_a_folder_that_may_not_be_written_is_told() -> None:
    with pytest.raises(StateError, match=r"cannot open the state file /proc/state.sqlite: .*folder may be written"):
        IngestState("/proc/state.sqlite")


def test_a_closed_state_says_so(tmp_path: Path) -> None:
    state = IngestState(tmp_path / "state.sqlite")
    state.close()
    state.close()

    with pytest.raises(StateError, match="closed database"):
        state.quarantined()


def test_the_file_is_whole_when_it_is_closed(tmp_path: Path) -> None:
    with IngestState(tmp_path / "state.sqlite") as state:
        state.finish(state.start(SCOPE, {}), Report())

    assert [path.name for path in tmp_path.iterdir()] == ["state.sqlite"]  # no journal beside it
    with IngestState(tmp_path / "state.sqlite") as state:
        assert json.dumps(dict(state.runs()[0].report or {}))
