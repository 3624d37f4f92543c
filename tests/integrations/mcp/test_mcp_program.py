"""`clip-qdrant mcp` as a process, over stdin and stdout and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fakes import write_image
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult
from mcp_calls import call_tool
from program import program_in

from clip_qdrant import ClipEmbedder, EdgeClient, ImageCollection

PROGRAM = ("-m", "clip_qdrant", "mcp")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mcp")
    with EdgeClient(folder / "store") as client:
        images = ImageCollection("photos", ClipEmbedder.load(), client)
        images.add([write_image(folder / f"{colour}.png", colour, (64, 64)) for colour in ("red", "blue")])
    return folder / "store"


def test_over_stdin_and_stdout_a_host_gets_protocol_and_nothing_else(store: Path, tmp_path: Path) -> None:
    strays: list[Any] = []

    async def note(message: Any) -> None:
        if isinstance(message, Exception):
            strays.append(message)

    async def search() -> CallToolResult:
        environment = {name: os.environ[name] for name in ("PYTHONPATH", "XDG_CACHE_HOME") if name in os.environ}
        arguments = [*PROGRAM, "--location", str(store), "--collection", "photos"]
        server = StdioServerParameters(command=sys.executable, args=arguments, env=environment, cwd=tmp_path)
        async with Client(server, message_handler=note) as client:
            return await client.call_tool("search_images", {"query": "a red square", "limit": 1})

    result = asyncio.run(search())

    assert not result.is_error
    assert [block.type for block in result.content] == ["text", "image"]
    assert Path(result.structured_content["hits"][0]["path"]).parent == store.parent
    assert strays == []
    assert list(tmp_path.iterdir()) == []


def test_over_http_it_says_where_it_listens_and_ends_with_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, *PROGRAM, "--location", ":memory:", "--http", "127.0.0.1:0"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    try:
        assert said.startswith("MCP at http://127.0.0.1:")
        url = said.split()[-1]
        assert not call_tool(url, "list_collections").is_error
        with contextlib.ExitStack() as held:
            for _ in range(64):
                held.enter_context(socket.create_connection(("127.0.0.1", int(urlsplit(url).port or 0))))
            assert httpx.post(url, json={}, trust_env=False, timeout=60).status_code == 503
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[1]
    assert process.returncode == -signal.SIGTERM, rest
    assert "Traceback" not in rest


def test_a_wrong_address_or_an_open_door_is_a_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with program_in(tmp_path / "work", monkeypatch) as program:
        for given, told in (("nowhere", "mcp_http is 'nowhere'"), ("0.0.0.0:8090", "CLIP_QDRANT_MCP_TOKEN")):
            ended = program("mcp", "--http", given)

            assert ended.code == 2
            assert told in ended.err
            assert ended.out == ""
