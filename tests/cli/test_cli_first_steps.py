"""What a newcomer meets: `python -m clip_qdrant`, examples in help, completion, dropping a collection, advice."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fakes import FakeEmbedder, write_image
from program import Program, program_in

from clip_qdrant.cli import wiring
from clip_qdrant.cli.app import COMMANDS, app
from clip_qdrant.cli.examples import EXAMPLES

PROGRAM: Any = typer.main.get_command(app)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


@pytest.fixture
def photos(program: Program) -> None:
    write_image(program.folder / "photos" / "red.png", "red")
    assert program("ingest", "photos", "--collection", "photos").code == 0


def test_the_package_runs_as_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clip_qdrant", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("clip-qdrant ")


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_ends_with_examples_that_parse(program: Program, name: str) -> None:
    out = program(*([name] if name else []), "--help").out

    for line in EXAMPLES[name]:
        assert " ".join(line.split()) in " ".join(out.split())
        command, *arguments = shlex.split(line)[1:]
        assert PROGRAM.commands[command].make_context(command, arguments).info_name == command


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("clip-qdrant sea", "search"),
        ("clip-qdrant search --ht", "--html"),
        ("clip-qdrant train --loc", "--location"),
    ],
)
def test_the_shell_completes_commands_and_options(
    program: Program, monkeypatch: pytest.MonkeyPatch, typed: str, offered: str
) -> None:
    monkeypatch.setenv("HOME", str(program.folder / "home"))
    monkeypatch.setenv("_CLIP_QDRANT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))

    outcome = program()

    assert (outcome.code, outcome.out.split()) == (0, [offered])
    assert not (program.folder / "home").exists()


def test_completion_is_shown_and_written_nowhere_unless_asked(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(program.folder / "home"))
    # Which shell it is for is seen from the processes above; a run in the background may have no shell there.
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))

    outcome = program("--show-completion", "bash")

    assert outcome.code == 0
    assert "_CLIP_QDRANT_COMPLETE" in outcome.out
    assert not (program.folder / "home").exists()


@pytest.mark.usefixtures("photos")
def test_a_collection_is_dropped_when_it_is_meant(program: Program) -> None:
    assert program("drop", "photos", "--yes").out == "collection photos with 1 images is deleted\n"

    assert program("info", "--json").json["store"]["collections"] == []
    assert (program.folder / "photos" / "red.png").exists()


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(("answer", "left"), [("n\n", 1), ("y\n", 0)])
def test_dropping_asks_first(program: Program, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    monkeypatch.setattr(
        "clip_qdrant.cli.confirm.sys.stdin", type("Terminal", (), {"isatty": staticmethod(lambda: True)})
    )
    monkeypatch.setattr("typer.confirm", lambda _: answer == "y\n")

    assert program("drop", "photos").code == left
    assert len(program("info", "--json").json["store"]["collections"]) == left


@pytest.mark.usefixtures("photos")
def test_dropping_where_nobody_can_be_asked_needs_yes(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_qdrant.cli.confirm.sys.stdin", type("Pipe", (), {"isatty": staticmethod(lambda: False)}))

    outcome = program("drop", "photos")

    assert outcome.code == 2
    assert "--yes" in outcome.err


@pytest.mark.usefixtures("photos")
def test_dropping_what_is_not_there_names_what_is(program: Program) -> None:
    outcome = program("drop", "fotos", "--yes")

    assert outcome.code == 3
    assert "photos" in outcome.err


@pytest.mark.usefixtures("photos")
def test_a_collection_of_another_model_is_dropped_as_its_error_advises(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "open_embedder", lambda _: FakeEmbedder(name="another"))
    outcome = program("search", "red", "--collection", "photos")

    assert outcome.code == 4
    assert "clip-qdrant drop" in outcome.err
    assert program("drop", "photos", "--yes").code == 0


@pytest.mark.parametrize("command", [["search", "red"], ["search"], ["facet", "image.format"], ["calibrate"]])
def test_an_absent_collection_is_said_to_be_made_by_ingesting(program: Program, command: list[str]) -> None:
    outcome = program(*command, "--location", "./nothing-here")

    assert outcome.code == 3
    assert "'images' yet in" in outcome.err and "nothing-here" in outcome.err
    assert "--location" in outcome.err and "clip-qdrant ingest" in outcome.err


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("command", [["search", "red"], ["search"], ["facet", "image.format"], ["calibrate"]])
def test_reading_a_mistyped_collection_names_those_there_are(program: Program, command: list[str]) -> None:
    outcome = program(*command, "--collection", "fotos", "--json")

    assert (outcome.code, outcome.out) == (3, "")
    assert "there is no collection 'fotos' yet" in outcome.err
    assert "there are: photos (--collection chooses one)" in outcome.err


def test_info_begins_with_what_is_in_the_store_and_ends_with_settings(program: Program) -> None:
    out = program("info").out

    places = [out.index(word) for word in ("collections", "standard fields", "taken_at", "versions", "\nsettings")]
    assert places == sorted(places)
