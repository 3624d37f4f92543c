"""`clip-qdrant ingest`: counts, quarantine, JSON, names no terminal can show."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEmbedder, write_image
from program import Program, program_in

COUNTS = ("listed", "added", "updated", "payload_updated", "skipped")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


@pytest.fixture
def photos(program: Program) -> Path:
    folder = program.folder / "photos"
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("below/c.jpg", "green")):
        write_image(folder / name, colour)
    return folder


def counts(document: dict[str, object]) -> tuple[object, ...]:
    return tuple(document[name] for name in COUNTS)


def test_a_folder_is_ingested_with_what_lies_below(program: Program, photos: Path) -> None:
    outcome = program("ingest", photos, "--json")

    assert outcome.code == 0
    assert counts(outcome.json) == (3, 3, 0, 0, 0)
    assert outcome.json["quarantined"] == []
    assert outcome.json["interrupted"] is False


def test_a_second_run_finds_everything_unchanged(program: Program, photos: Path) -> None:
    program("ingest", photos)

    assert counts(program("ingest", photos, "--json").json) == (3, 0, 0, 0, 3)


def test_the_summary_has_the_counts(program: Program, photos: Path) -> None:
    rows = [line.split("|") for line in program("ingest", photos).out.splitlines() if "|" in line]

    told = {row[0].strip(): row[1].strip() for row in rows}
    assert told["listed"] == told["added"] == "3"
    assert told["quarantined"] == "0"


def test_patterns_select_and_leave_out(program: Program, photos: Path) -> None:
    write_image(photos / "skip.png", "black")

    outcome = program("ingest", photos, "--include", "*.png", "--exclude", "skip*", "--json")

    assert outcome.json["added"] == 2


def test_a_bad_file_is_listed_with_its_reason_and_the_exit_code_is_6(program: Program, photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"this is text")

    outcome = program("ingest", photos)

    assert outcome.code == 6
    assert (program.folder / "qdrant-data" / "ingestion.sqlite").exists()
    (line,) = (line for line in outcome.out.splitlines() if "bad.jpg" in line)
    assert "not an image" in line

    again = program("ingest", photos, "--json")
    assert again.code == 6
    assert (*counts(again.json), again.json["still_bad"]) == (4, 0, 0, 0, 3, 1)
    assert again.json["quarantined"] == []

    retried = program("ingest", photos, "--retry-failed", "--json")
    assert (retried.code, retried.json["still_bad"]) == (6, 0)
    (row,) = retried.json["quarantined"]
    assert row["uri"] == (photos / "bad.jpg").as_uri()
    assert row["reason"] == "not an image"


def test_many_bad_files_are_summed_up(program: Program, photos: Path) -> None:
    for number in range(60):
        (photos / f"bad{number:02}.jpg").write_bytes(b"")

    outcome = program("ingest", photos)

    assert "the first 50 of 60 (60 empty); --json has them all" in outcome.out
    assert program("ingest", photos, "--json").json["still_bad"] == 60


def test_the_limits_of_the_settings_hold(program: Program, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_MAX_IMAGE_PIXELS", "100")

    reasons = [row["reason"] for row in program("ingest", photos, "--json").json["quarantined"]]

    assert reasons == ["too large"] * 3


def test_batch_size_and_workers_reach_the_pipeline(program: Program, photos: Path) -> None:
    program("ingest", photos, "--batch-size", "1", "--workers", "1")

    assert program.embedder.image_calls == [1, 1, 1]


@pytest.mark.parametrize("option", ["--batch-size", "--workers"])
def test_a_batch_of_nothing_is_refused(program: Program, photos: Path, option: str) -> None:
    outcome = program("ingest", photos, option, "0")

    assert outcome.code == 2
    assert f"{option[2:].replace('-', '_')} is 0" in outcome.err


def test_a_folder_that_is_not_there_is_a_source_error(program: Program) -> None:
    outcome = program("ingest", "nowhere")

    assert outcome.code == 5
    assert outcome.err == "error: cannot list nowhere: not found\n"
    assert not (program.folder / "qdrant-data").exists()


def test_a_file_that_is_no_source_is_a_wrong_command_line(program: Program, photos: Path) -> None:
    outcome = program("ingest", "photos/a.png")

    assert outcome.code == 2
    assert outcome.err.startswith("error: photos/a.png cannot be ingested: a source is a folder, a bucket")
    assert not (program.folder / "qdrant-data").exists()


def test_a_plan_is_shown_and_nothing_is_stored(program: Program, photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"")
    plan = program("ingest", photos, "--dry-run", "--json")
    assert (plan.code, plan.json["new"], plan.json["gone"], plan.json["complete"]) == (0, 4, 0, True)
    assert program("search", "red").code == 3
    assert not (program.folder / "qdrant-data").exists()

    program("ingest", photos)
    (photos / "a.png").rename(photos / "z.png")
    (photos / "b.png").unlink()
    write_image(photos / "below" / "c.jpg", "white", (30, 30))
    plan = program("ingest", photos, "--dry-run", "--json")
    names = ("new", "changed", "renamed", "unchanged", "still_bad", "gone")
    assert [plan.json[name] for name in names] == [0, 1, 1, 0, 1, 2]
    table = program("ingest", photos, "--dry-run").out
    assert "z.png" in table
    assert "store under the new name with the vector it has" in table


def test_deletion_is_asked_for_and_braked(program: Program, photos: Path) -> None:
    program("ingest", photos)
    (photos / "a.png").unlink()
    (photos / "b.png").unlink()

    assert program("ingest", photos, "--json").json["gone"] == 2
    told = program("ingest", photos)
    assert (told.code, "2 stored images are no longer where they were" in told.out) == (0, True)
    assert "the same with --delete removes them" in told.out
    braked = program("ingest", photos, "--delete", "--json")
    assert (braked.code, braked.json["gone"], braked.json["deleted"]) == (7, 2, 0)
    assert "--max-delete" in program("ingest", photos, "--delete").out
    done = program("ingest", photos, "--delete", "--max-delete", "70%", "--json")
    assert (done.code, done.json["deleted"]) == (0, 2)


def test_all_settings_may_come_from_the_environment(
    program: Program, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SOURCE": str(photos), "INCLUDE": "*.png, *.gif", "SOURCE_NAME": "pets"}.items():
        monkeypatch.setenv(f"CLIP_QDRANT_{name}", value)

    assert program("ingest", "--json").json["added"] == 2
    assert program("search", "red", "--where", "source.name = 'pets'", "--json").json["hits"]


@pytest.mark.skipif(sys.platform != "linux", reason="file names of other systems are Unicode")
def test_file_names_that_are_no_utf_8_are_ingested_and_shown(
    program: Program, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")  # no name is parted, however long the path before it
    write_image(photos / "x.png", "red").rename(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png"))
    Path(os.fsdecode(os.fsencode(photos) + b"/bad\xff\x1b[31m.png")).write_bytes(b"nonsense")

    outcome = program("ingest", photos)
    found = program("search", "red")

    assert outcome.code == 6
    assert "bad\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m.png" in outcome.out
    assert found.code == 0
    assert "caf\N{REPLACEMENT CHARACTER}.png" in found.out
    for text in (outcome.out, outcome.err, found.out):
        assert "\x1b" not in text
    assert program("search", "red", "--json").json["hits"][0]["uri"].endswith(".png")


def test_captions_cannot_colour_the_terminal(program: Program, photos: Path) -> None:
    row = {"file_name": "a.png", "caption": "[red]loud[/red] \x1b[2J", "note": "a\nb"}
    (photos / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    program("ingest", photos)

    outcome = program("search", "red", "-n", "1")

    assert "[red]loud[/red] \N{REPLACEMENT CHARACTER}[2J" in outcome.out
    assert "note=a b" in outcome.out


class _Interrupting(FakeEmbedder):
    """Stands for a user who presses Ctrl-C while the first batch is embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.pressed = threading.Event()

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        if not self.pressed.is_set():
            self.pressed.set()
            os.kill(os.getpid(), signal.SIGINT)
        return super().embed_pixels(pixels)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself Ctrl-C there")
def test_an_interrupted_run_reports_what_it_did_and_is_continued_by_the_next(program: Program) -> None:
    folder = program.folder / "many"
    for number in range(200):
        write_image(folder / f"{number}.png", (number, 100, 50), size=(8, 8))
    program.embedder = _Interrupting()

    outcome = program("ingest", folder, "--batch-size", "1", "--workers", "1", "--json")

    assert outcome.code == 130
    assert outcome.json["interrupted"] is True
    assert 0 < outcome.json["added"] < 200
    rest = program("ingest", folder, "--json").json
    assert rest["added"] + rest["skipped"] == 200
    assert rest["skipped"] == outcome.json["added"]
