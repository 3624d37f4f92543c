"""`clip-qdrant cache` shows what was prepared for this computer, and prunes what nothing needs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import Program, program_in

from clip_qdrant import ClipEmbedder
from clip_qdrant.content import bundled_checkpoint
from clip_qdrant.runtime.cache_contents import list_contents
from clip_qdrant.runtime.file_notes import FileNotes, Note

HUB = "hf:someone/clip"
DAY = 24 * 3600


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Exports of a model of the hub, of a file that is there, of one that is gone, and of nothing that is known."""
    folder = tmp_path / "cache"
    (folder / "exports").mkdir(parents=True)
    (tmp_path / "mine.pt").write_bytes(b"weights")
    sources = {"a" * 64: HUB, "b" * 64: str(tmp_path / "mine.pt"), "c" * 64: str(tmp_path / "gone.pt"), "d" * 64: ""}
    for name, source in sources.items():
        (folder / "exports" / f"{name}.pt").symlink_to(bundled_checkpoint())  # a checkpoint with graphs, as exports are
        if source:
            FileNotes(folder / "notes").remember(Note(source, name), [])
    (folder / "ingestion.sqlite").write_bytes(b"state")
    return folder


@pytest.fixture
def program(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path / "work", monkeypatch) as program:
        monkeypatch.setenv("CLIP_QDRANT_CACHE_DIR", str(cache))
        yield program


def left(cache: Path) -> str:
    """The first letters of the exports there are."""
    return "".join(sorted(path.name[0] for path in (cache / "exports").glob("[a-d]*.pt")))


def test_it_lists_models_sizes_fingerprints_and_the_total(program: Program) -> None:
    table, document = program("cache"), program("cache", "--json").json
    assert table.code == 0
    for part in (HUB, "mine.pt", "gone.pt (gone)", "of no model that is known", "a" * 12, "onnx", "hf cache ls"):
        assert part in table.out
    assert document["bytes"] == 4 * bundled_checkpoint().stat().st_size
    [hub] = [row for row in document["exports"] if row["sources"] == [HUB]]
    assert (hub["fingerprint"], hub["bytes"], hub["needed"]) == ("a" * 64, bundled_checkpoint().stat().st_size, True)
    assert hub["made_with"]


def test_a_cache_that_is_not_there_yet_is_empty(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIP_QDRANT_CACHE_DIR", str(tmp_path / "none"))
    assert "0.0 MB in" in program("cache").out
    assert "nothing to remove" in program("cache", "prune").out
    assert not (tmp_path / "none").exists()


def test_prune_removes_what_nothing_needs(program: Program, cache: Path) -> None:
    assert "leftovers" not in program("cache").out
    (cache / "exports" / ".new.pt").write_bytes(b"half of an export" * 100_000)
    (cache / "exports" / ("e" * 64)).mkdir()
    (cache / "sources").mkdir()
    assert ", 1.7 MB of it leftovers\n" in program("cache").out
    would = program("cache", "prune", "--dry-run")
    assert "to remove: " in would.out
    assert ".new.pt" in would.out
    assert left(cache) == "abcd"
    done = program("cache", "prune", "--yes", "--json").json
    assert done["removed"] is True
    assert left(cache) == "ab"
    assert sorted(path.name for path in cache.iterdir()) == ["exports", "exports.lock", "ingestion.sqlite", "notes"]
    assert [path.name[0] for path in (cache / "exports").iterdir()] in (["a", "b"], ["b", "a"])
    assert {note.source.rpartition("/")[2] for note in FileNotes(cache / "notes")} == {"clip", "mine.pt"}
    assert "nothing to remove" in program("cache", "prune").out


def test_prune_by_age_and_of_all(program: Program, cache: Path) -> None:
    notes = FileNotes(cache / "notes")
    for name, days in (("a", 1), ("b", 40)):
        export = cache / "exports" / f"{name * 64}.pt"
        notes.remember(Note(str(export), name * 64), [])
        [note] = (path for path in (cache / "notes").iterdir() if f"{name * 64}.pt" in path.read_text())
        os.utime(note, (time.time() - days * DAY,) * 2)
    assert program("cache", "prune", "--older-than", "50", "--yes").code == 0
    assert left(cache) == "ab"
    assert program("cache", "prune", "--older-than", "30", "--yes").code == 0
    assert left(cache) == "a"
    assert program("cache", "prune", "--all", "--yes").code == 0
    assert left(cache) == ""
    assert (cache / "ingestion.sqlite").exists()


def test_nobody_is_asked_without_a_terminal(program: Program, cache: Path) -> None:
    refused = program("cache", "prune")
    assert refused.code == 2
    assert "give --yes" in refused.err
    assert left(cache) == "abcd"
    assert program("cache", "--all").code == 2
    assert program("cache", "remove").code == 2


def test_an_export_that_is_opened_is_used_and_needs_no_hub(cache: Path) -> None:
    fingerprint = ClipEmbedder.load(runtime="onnx").fingerprint
    path = cache / "exports" / f"{fingerprint}.pt"
    shutil.copy(bundled_checkpoint(), path)
    os.utime(path, (time.time() - 40 * DAY,) * 2)
    FileNotes(cache / "notes").remember(Note(HUB, fingerprint), [])
    assert days_unused(cache, fingerprint) > 39  # looking is no use
    assert days_unused(cache, fingerprint) > 39
    ClipEmbedder.load(HUB, runtime="onnx", device="cpu", cache_dir=cache)
    assert days_unused(cache, fingerprint) < 1


def days_unused(cache: Path, fingerprint: str) -> float:
    [export] = [each for each in list_contents(cache).exports if each.fingerprint == fingerprint]
    return (time.time() - export.last_used.timestamp()) / DAY
