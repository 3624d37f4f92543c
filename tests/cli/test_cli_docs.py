"""docs/cli.md and docs/settings.md say what is there: every command, option, exit code, setting and default."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from clip_qdrant.cli import failures
from clip_qdrant.cli.app import app
from clip_qdrant.integrations.mcp.settings import McpSettings
from clip_qdrant.service.settings import ServeSettings
from clip_qdrant_ingestion.settings import IngestSettings

DOCS = Path(__file__).parents[2] / "docs"
CLI = (DOCS / "cli.md").read_text(encoding="utf-8")
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
KINDS = {name: kind for kind in (McpSettings, ServeSettings, IngestSettings) for name in kind.model_fields}
PROGRAM: Any = typer.main.get_command(app)


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", CLI, re.MULTILINE | re.DOTALL)
    assert match is not None, f"docs/cli.md has no section {title}"
    return match[1]


def options(command: Any) -> set[str]:
    return {name for param in command.params for name in param.opts if name.startswith("--") and name != "--help"}


def examples() -> Iterator[str]:
    for block in re.findall(r"^```\n(.*?)^```", CLI, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


@pytest.mark.parametrize("name", sorted(PROGRAM.commands))
def test_every_command_has_its_section_with_all_its_options(name: str) -> None:
    text = section(name)

    missing = {option for option in options(PROGRAM.commands[name]) if f"`{option}" not in text}
    assert missing == set()


def test_no_section_describes_an_option_that_is_not_there() -> None:
    for name, command in PROGRAM.commands.items():
        assert set(re.findall(r"^\| `(--[a-z-]+)", section(name), re.MULTILINE)) <= options(command)


def test_the_options_of_every_command_are_described() -> None:
    head = CLI.split("\n## ")[0]

    assert all(f"`{option}" in head or f"clip-qdrant {option}`" in head for option in options(PROGRAM))


@pytest.mark.parametrize("line", list(examples()))
def test_every_example_is_a_command_line_that_parses(line: str) -> None:
    program, name, *arguments = shlex.split(line)
    command = PROGRAM.commands[name]

    assert program == "clip-qdrant"
    context = command.make_context(name, arguments)
    assert context.params


def test_the_exit_codes_are_those_of_the_program() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)}

    named = {
        0,
        failures.FAILURE,
        failures.USAGE,
        failures.QUARANTINED,
        failures.REFUSED,
        failures.TERMINATED,
        failures.INTERRUPTED,
        failures.BROKEN_PIPE,
    }
    assert told == named | {code for _, code in failures.EXIT_CODES}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_setting_is_described_with_its_default(name: str) -> None:
    row = re.search(rf"^\| `{name}` \| (.+?) \| (.+?) \| (.+?) \|$", SETTINGS, re.MULTILINE)

    assert row is not None
    default = KINDS[name].model_fields[name].default
    if default in (None, ()):
        assert "`" not in row[1]
    else:
        assert getattr(KINDS[name].load({name: row[1].strip("`")}, dotenv=None), name) == default


def test_no_setting_is_described_that_is_not_there() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", SETTINGS, re.MULTILINE)) == set(KINDS)


def test_the_settings_file_of_the_docs_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```toml\n(.*?)```", SETTINGS, re.DOTALL)
    assert block is not None
    (tmp_path / "clip-qdrant.toml").write_text(block[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("LOCATION", "COLLECTION", "MAX_IMAGE_BYTES"):
        monkeypatch.delenv(f"CLIP_QDRANT_{name}", raising=False)

    settings = IngestSettings.load()

    assert settings.location == "http://localhost:6333"
    assert settings.max_image_bytes == 64 << 20
