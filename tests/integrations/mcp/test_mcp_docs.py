"""docs/mcp.md says what is there: its Python runs, its tools are those of the server, its configurations parse."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from fakes import FakeEmbedder
from mcp import Client
from mcp_store import Shelf

from clip_qdrant import ClipEmbedder
from clip_qdrant.cli.app import app
from clip_qdrant.cli.wiring import Options

TEXT = (Path(__file__).parents[3] / "docs" / "mcp.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def command_lines() -> list[list[str]]:
    """What stands behind `clip-qdrant` in the configurations of hosts and in the shell."""
    found = []
    for kind, body in BLOCKS:
        if kind == "json":
            [servers] = json.loads(body).values()
            found += [server["args"] for server in servers.values()]
        elif kind in ("", "sh"):
            found += [shlex.split(line) for line in re.findall(r"clip-qdrant (mcp.*)$", body, re.MULTILINE)]
    return found


@pytest.mark.parametrize("arguments", command_lines(), ids=" ".join)
def test_every_command_line_parses(arguments: list[str]) -> None:
    program: Any = typer.main.get_command(app)

    assert program.get_command(None, "mcp").make_context("mcp", arguments[1:], obj=Options())


def test_there_are_command_lines_to_parse() -> None:
    assert len(command_lines()) == 5


def test_the_tools_are_those_of_the_server(shelf: Shelf) -> None:
    async def list_tools() -> Any:
        async with Client(shelf.server) as client:
            return (await client.list_tools()).tools

    described = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)

    assert described == [tool.name for tool in asyncio.run(list_tools())]


def test_the_example_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ClipEmbedder, "load", FakeEmbedder)
    namespace: dict[str, Any] = {}
    for kind, body in BLOCKS:
        if kind == "python":
            exec(compile(body, "mcp.md", "exec"), namespace)

    assert namespace["server"].name == "clip-qdrant"
