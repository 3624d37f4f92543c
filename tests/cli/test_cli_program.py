"""The program as a whole: options before and behind the command, exit codes, how errors are told, broken pipes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_image
from program import Program, program_in

from clip_qdrant import __version__, errors
from clip_qdrant.cli import failures, wiring


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


def subclasses(kind: type[errors.ClipQdrantError]) -> Iterator[type[errors.ClipQdrantError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from subclasses(below)


def test_the_version_is_that_of_the_package(program: Program) -> None:
    assert program("--version").out == f"clip-qdrant {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_command_the_commands_are_listed(program: Program, arguments: list[str]) -> None:
    outcome = program(*arguments)

    assert outcome.code == 0
    for command in ("ingest", "search", "facet", "info", "train", "evaluate", "demo"):
        assert command in outcome.out


@pytest.mark.parametrize("before", [True, False])
def test_options_of_the_program_may_stand_before_and_behind_the_command(program: Program, before: bool) -> None:
    write_image(program.folder / "photos" / "red.png", "red")
    option = ["--location", "elsewhere"]

    outcome = program(*(option if before else []), "ingest", "photos", *([] if before else option))

    assert outcome.code == 0
    assert (program.folder / "elsewhere").is_dir()
    assert not (program.folder / "qdrant-data").exists()


def test_an_option_behind_the_command_wins_over_the_same_before_it(program: Program) -> None:
    outcome = program("--location", "before", "info", "--location", "behind", "--json")

    assert outcome.json["settings"]["location"] == {"value": "behind", "from": "given"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serch", "x"], "No such command 'serch'"),
        (["search", "x", "--colour"], "No such option: --colour"),
        (["search", "x", "--limit", "many"], "'--limit'"),
        (["facet"], "Missing argument 'FIELD'"),
    ],
)
def test_a_wrong_command_line_is_one_error_line_and_where_to_read_on(
    program: Program, arguments: list[str], told: str
) -> None:
    outcome = program(*arguments)

    assert outcome.code == 2
    assert outcome.out == ""
    first, *others = outcome.err.splitlines()
    assert first.startswith("error: ")
    assert told in first
    assert others[-1].startswith("  try: clip-qdrant")


@pytest.mark.parametrize("kind", sorted(set(subclasses(errors.ClipQdrantError)), key=lambda kind: kind.__name__))
def test_every_error_of_the_tree_has_the_exit_code_of_its_branch(kind: type[errors.ClipQdrantError]) -> None:
    expected = {
        errors.ConfigError: 2,
        errors.FilterError: 2,
        errors.QueryError: 2,
        errors.StoreError: 3,
        errors.ModelError: 4,
        errors.SourceError: 5,
        errors.ImageError: 5,
    }
    branches = [code for branch, code in expected.items() if issubclass(kind, branch)]

    assert failures.exit_code(kind.__new__(kind)) == (branches[0] if branches else 1)


def test_an_error_is_told_without_a_traceback(program: Program) -> None:
    outcome = program("search", "red")

    assert outcome.code == 3
    assert outcome.out == ""
    assert outcome.err.startswith("error: there is no collection 'images' yet")
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("how", ["option", "variable"])
def test_with_debug_the_traceback_is_shown_too(program: Program, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "variable":
        monkeypatch.setenv("CLIP_QDRANT_DEBUG", "1")

    outcome = program("search", "red", *(["--debug"] if how == "option" else []))

    assert outcome.code == 3
    assert "Traceback" in outcome.err
    assert "error: there is no collection" in outcome.err


def test_a_bug_is_one_line_and_the_way_to_its_traceback(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: object, **_: object) -> None:
        raise KeyError("no such thing")

    monkeypatch.setattr(wiring, "open_client", broken)

    outcome = program("search", "red")

    assert outcome.code == 1
    assert outcome.err == (
        "error: unexpected KeyError: 'no such thing'\n  this is a bug in clip-qdrant: --debug shows where\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "--image", "\x1b[31mnope.jpg"],
        ["search", "x", "--where", "\x1b[31m = 'x'"],
        ["search", "x", "--\x1b[31m"],
        ["\x1b[31m"],
        ["info", "--config", "\x1b[31m.toml"],
    ],
)
def test_errors_cannot_colour_the_terminal(program: Program, arguments: list[str]) -> None:
    write_image(program.folder / "photos" / "red.png", "red")
    program("ingest", "photos")

    for debug in ([], ["--debug"]):
        outcome = program(*debug, *arguments)

        assert outcome.code in (2, 5)
        assert "error: " in outcome.err
        assert "[31m" in outcome.err or "--where" in arguments
        assert outcome.err.replace("\n", "").isprintable()


def test_warnings_cannot_either(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def warning(settings: object, **_: object) -> None:
        logging.getLogger("clip_qdrant.any").warning("a file is named %s", "\x1b[31m\r.png")
        raise errors.StoreError("enough")

    monkeypatch.setattr(wiring, "open_client", warning)

    outcome = program("search", "red")

    assert outcome.err.splitlines()[0] == "warning: a file is named \N{REPLACEMENT CHARACTER}[31m"
    assert outcome.err.replace("\n", "").isprintable()


def test_the_caret_of_a_wrong_filter_points_at_its_place(program: Program) -> None:
    write_image(program.folder / "photos" / "red.png", "red")
    program("ingest", "photos")

    lines = program("search", "x", "--where", "image.width  >=  = 3").err.splitlines()

    (text,) = (line for line in lines[1:] if "image.width" in line)
    caret = lines[lines.index(text) + 1]
    assert text[caret.index("^")] == "="
    assert text.index("  >=  = 3") + 6 == caret.index("^")


def test_an_interrupt_ends_with_130(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(settings: object, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(wiring, "open_client", interrupted)

    outcome = program("search", "red")

    assert outcome.code == 130
    assert outcome.err == "interrupted\n"


def test_a_wrong_setting_ends_with_2_and_is_named(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_RUNTIME", "fast")

    outcome = program("search", "red")

    assert outcome.code == 2
    assert outcome.err == "error: CLIP_QDRANT_RUNTIME is 'fast': it must be auto, onnx or torch\n"


def test_the_settings_file_can_be_named(program: Program) -> None:
    (program.folder / "mine.toml").write_text('collection = "mine"\n')

    outcome = program("info", "--config", "mine.toml", "--json")

    assert outcome.json["settings"]["collection"] == {"value": "mine", "from": "mine.toml"}


def test_with_json_errors_still_go_to_stderr(program: Program) -> None:
    outcome = program("search", "red", "--json")

    assert outcome.out == ""
    assert outcome.err.startswith("error: ")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["info"], ["info", "--json"]])
def test_a_reader_that_goes_away_ends_the_program_silently(tmp_path: Path, arguments: list[str]) -> None:
    quick = (
        "from clip_qdrant import errors\n"
        "from clip_qdrant.cli import main, wiring\n"
        "def no_model(settings): raise errors.CheckpointError('no model')\n"
        "wiring.open_embedder = no_model\n"
        "main()"
    )
    read, write = os.pipe()
    os.close(read)

    with os.fdopen(write, "w") as stdout:
        outcome = subprocess.run(
            [sys.executable, "-c", quick, *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    assert outcome.returncode == failures.BROKEN_PIPE
    assert outcome.stderr == ""
