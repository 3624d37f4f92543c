"""`clip-qdrant ingest-report`: the last runs and the quarantine, from the state file alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from program import Program, program_in

from clip_qdrant_ingestion.run.report import Duplicate, Quarantined, Report, StageTime
from clip_qdrant_ingestion.state.reader import Scope
from clip_qdrant_ingestion.state.state import IngestState

PHOTOS = Scope("qdrant-data", "photos", "file:///home/me/photos")
BUCKET = Scope("qdrant-data", "shop", "s3://bucket")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


@pytest.fixture
def state(program: Program) -> Iterator[IngestState]:
    """The state file where the default store has it."""
    with IngestState(program.folder / "qdrant-data" / "ingestion.sqlite") as state:
        yield state


def bad(uri: str, reason: str = "truncated") -> Quarantined:
    return Quarantined(uri, reason, f"it is {reason}", True, "etag")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def table(out: str, title: str) -> list[list[str]]:
    """The rows of a table below its title, without the row of column names."""
    lines = out.splitlines()
    after = lines[lines.index(title) + 1 :]
    rows = []
    for line in after:
        if "|" in line:
            rows.append(cells(line))
        elif "+" not in line:
            break
    return rows[1:]


def test_a_run_is_shown_with_what_it_did_and_what_held_it_up(program: Program, state: IngestState) -> None:
    stages = {"read": StageTime(1.0, 1, 0.1), "decode": StageTime(9.3, 1, 0.93)}
    report = Report(listed=12, added=7, payload_updated=2, quarantined=(bad("a"),), seconds=10.0, stages=stages)
    state.finish(state.start(PHOTOS, {}), report)

    (row,) = table(program("ingest-report").out, "runs")

    started, took, source, collection, outcome, objects, slowest = row
    assert datetime.strptime(started, "%Y-%m-%d %H:%M")
    assert took == "0.0 s"
    assert (source, collection, outcome) == ("file:///home/me/photos", "photos", "done")
    assert objects == "12 listed, 7 added, 2 payload updated, 1 quarantined"
    assert slowest == "decode 93 %"


def test_each_way_a_run_can_end_is_told(program: Program, state: IngestState) -> None:
    state.finish(state.start(PHOTOS, {}), Report(interrupted=True))
    state.finish(state.start(PHOTOS, {}), Report(refused="it would delete 90 % of photos"))
    state.fail(state.start(PHOTOS, {}), "the store does not answer")
    state.start(PHOTOS, {})

    rows = table(program("ingest-report").out, "runs")

    assert [row[4].split(",")[0] for row in rows] == [
        "unfinished: killed",
        "failed: the store does not answer",
        "refused: it would delete 90 % of photos",
        "interrupted",
    ]
    assert rows[0][1] == ""


def test_the_number_of_runs_can_be_chosen(program: Program, state: IngestState) -> None:
    for _ in range(12):
        state.start(PHOTOS, {})

    assert len(table(program("ingest-report").out, "runs")) == 10
    assert len(table(program("ingest-report", "--runs", "3").out, "runs")) == 3
    assert len(program("ingest-report", "--runs", "11", "--json").json["runs"]) == 11


def test_the_quarantine_is_shown_with_reason_start_and_attempts(program: Program, state: IngestState) -> None:
    for _ in range(2):
        state.put_away(PHOTOS, "context").put([bad("file:///home/me/photos/a%20b.jpg")])
    state.put_away(BUCKET, "context").put([bad("s3://bucket/c.png", "empty")])

    rows = table(program("ingest-report", "--failed").out, "quarantined")

    assert [row[:3] for row in rows] == [
        ["s3://bucket/c.png", "empty", "it is empty"],
        [str(Path("/home/me/photos/a b.jpg")), "truncated", "it is truncated"],
    ]
    assert [row[4] for row in rows] == ["1", "2"]
    assert all(datetime.strptime(row[3], "%Y-%m-%d %H:%M") for row in rows)


def test_the_quarantine_is_shown_below_the_runs_and_alone_on_demand(program: Program, state: IngestState) -> None:
    state.put_away(PHOTOS, "context").put([bad("s3://bucket/a")])

    assert "runs" in program("ingest-report").out.splitlines()
    assert "quarantined" in program("ingest-report").out.splitlines()
    assert "runs" not in program("ingest-report", "--failed").out.splitlines()


def test_reason_and_source_choose(program: Program, state: IngestState) -> None:
    state.put_away(PHOTOS, "context").put([bad("a"), bad("b", "empty")])
    state.put_away(BUCKET, "context").put([bad("c", "empty")])
    for scope in (PHOTOS, BUCKET):
        state.start(scope, {})

    def uris(*options: str) -> set[str]:
        return {row["uri"] for row in program("ingest-report", "--json", *options).json["quarantined"]}

    assert uris() == {"a", "b", "c"}
    assert uris("--reason", "empty") == {"b", "c"}
    assert uris("--source", "s3://") == {"c"}
    assert uris("--reason", "empty", "--source", "home") == {"b"}
    assert program("ingest-report", "--reason", "empty", "--json").json["reasons"] == {"empty": 2}
    (run,) = program("ingest-report", "--source", "bucket", "--json").json["runs"]
    assert run["scope"]["collection"] == "shop"


def test_a_long_quarantine_is_cut_and_summed_up(program: Program, state: IngestState) -> None:
    rows = [bad(f"uri {number}", "truncated" if number % 3 else "empty") for number in range(60)]
    state.put_away(PHOTOS, "context").put(rows)

    out = program("ingest-report", "--failed").out
    assert len(table(out, "quarantined")) == 50
    assert out.splitlines()[-1] == "the last 50 of 60 (40 truncated, 20 empty); --limit shows more, --json all"
    assert len(table(program("ingest-report", "--failed", "--limit", "60").out, "quarantined")) == 60
    assert len(program("ingest-report", "--json").json["quarantined"]) == 60
    assert len(program("ingest-report", "--json", "--limit", "5").json["quarantined"]) == 5


def test_near_duplicates_are_shown_with_what_they_are_near(program: Program, state: IngestState) -> None:
    state.put_away(BUCKET, "context").put([Duplicate("s3://bucket/copy", "s3://bucket/original")])

    (row,) = table(program("ingest-report", "--duplicates").out, "left out")

    assert row[:2] == ["s3://bucket/copy", "s3://bucket/original"]
    document = program("ingest-report", "--duplicates", "--json").json
    assert set(document) == {"state", "reasons", "duplicates"}
    assert document["duplicates"][0]["first"] == "s3://bucket/original"


def test_the_json_has_whole_runs(program: Program, state: IngestState) -> None:
    number = state.start(PHOTOS, {"dedupe": "off"})
    state.finish(number, Report(listed=1, added=1, seconds=0.5))

    document = program("ingest-report", "--json").json

    assert set(document) == {"state", "runs", "quarantined", "reasons"}
    assert document["state"] == str(Path("qdrant-data") / "ingestion.sqlite")
    (run,) = document["runs"]
    assert (run["number"], run["outcome"], run["pid"]) == (number, "done", os.getpid())
    assert run["options"] == {"dedupe": "off"}
    assert (run["report"]["added"], run["report"]["quarantined"]) == (1, 0)
    assert datetime.fromisoformat(run["started_at"]).tzinfo is not None


def test_where_nothing_was_ingested_nothing_is_made(program: Program) -> None:
    outcome = program("ingest-report", "--state", "my.sqlite")

    assert (outcome.code, outcome.out) == (0, "no run has left a report: there is no my.sqlite\n")
    assert program("ingest-report", "--json").json["runs"] == []
    assert list(program.folder.iterdir()) == []


def test_the_state_file_can_be_named(program: Program) -> None:
    with IngestState(program.folder / "my.sqlite") as state:
        state.start(PHOTOS, {})

    assert len(program("ingest-report", "--state", "my.sqlite", "--json").json["runs"]) == 1


def test_an_empty_quarantine_is_told(program: Program, state: IngestState) -> None:
    assert program("ingest-report", "--failed").out == "nothing is in quarantine\n"


def test_a_file_that_is_no_state_file_is_an_error(program: Program) -> None:
    (program.folder / "my.sqlite").write_text("no database" * 100)

    outcome = program("ingest-report", "--state", "my.sqlite")

    assert outcome.code == 1
    assert outcome.err.startswith("error: cannot open the state file my.sqlite: file is not a database")


def test_names_cannot_make_a_terminal_act(program: Program, state: IngestState) -> None:
    scope = Scope("x", "c\x1b[2J", "s\x1b]0;title\x07")
    state.fail(state.start(scope, {}), "a\nb\x1b[31m")
    state.put_away(scope, "context").put([Quarantined("uri\x1b[2J", "rea\x1bson", "detail\r\n\x1b[0m", True)])

    assert "\x1b" not in program("ingest-report").out
    assert len(table(program("ingest-report").out, "runs")) == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.44, "0.4 s"), (59.9, "59.9 s"), (125, "2 min 05 s"), (3599.9, "1 h 00 min"), (11_040, "3 h 04 min")],
)
def test_durations_are_told_in_fitting_units(program: Program, state: IngestState, seconds: float, shown: str) -> None:
    number = state.start(PHOTOS, {})
    state.finish(number, Report())
    with state._file.writing() as connection:
        connection.execute("UPDATE runs SET finished_at = started_at + ?", (seconds,))

    assert table(program("ingest-report").out, "runs")[0][1] == shown


def test_it_imports_neither_the_model_nor_the_store(program: Program, state: IngestState) -> None:
    state.start(PHOTOS, {})
    code = (
        "import json, sys; from clip_qdrant.cli import run; code = run(sys.argv[1:]); sys.stdout.flush()\n"
        "heavy = ('torch', 'transformers', 'timm', 'onnxruntime', 'qdrant_client', 'qdrant_edge', 'PIL', 'fsspec')\n"
        "print(json.dumps([code, [name for name in heavy if name in sys.modules]]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "ingest-report"], capture_output=True, text=True, check=True, cwd=program.folder
    )

    assert json.loads(done.stderr.splitlines()[-1]) == [0, []]
