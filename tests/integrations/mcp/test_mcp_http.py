"""The server over streamable HTTP: by the official client, and what is refused before a tool is asked."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult
from mcp_calls import call_tool
from mcp_store import Shelf
from running_service import run_app

from clip_qdrant.errors import ConfigError
from clip_qdrant.integrations.mcp.http import PATH, HttpOptions, create_app, serve

TOKEN = "a token of the tests"
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


@pytest.fixture(scope="module")
def url(shelf: Shelf) -> Iterator[str]:
    with run_app(create_app(shelf.server, HttpOptions())) as base:
        yield base + PATH


@pytest.fixture(scope="module")
def guarded(shelf: Shelf) -> Iterator[str]:
    options = HttpOptions(host="0.0.0.0", token=TOKEN, names=["images.example.com"])
    with run_app(create_app(shelf.server, options)) as base:
        yield base + PATH


def post(url: str, body: Any = LIST, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url, json=body, headers=ACCEPT | named, trust_env=False, timeout=60)


def test_the_official_client_searches_over_http(url: str) -> None:
    result = call_tool(url, "search_images", query="red", limit=2)

    assert [hit["caption"] for hit in result.structured_content["hits"]] == ["all red, seen by Ada", "all yellow"]
    assert [block.type for block in result.content] == ["text", "image", "text", "image"]


def test_several_clients_are_answered_at_once(url: str) -> None:
    async def search(query: str) -> CallToolResult:
        async with Client(url) as client:
            return await client.call_tool("search_images", {"query": query, "limit": 1})

    async def search_all() -> list[CallToolResult]:
        return await asyncio.gather(*map(search, ["red", "green", "blue", "yellow"] * 2))

    captions = [found.structured_content["hits"][0]["caption"] for found in asyncio.run(search_all())]
    assert captions == ["all red, seen by Ada", "all green", "all blue", "all yellow"] * 2


def test_with_the_token_the_official_client_is_let_in(guarded: str) -> None:
    async def search() -> CallToolResult:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
            Client(streamable_http_client(guarded, http_client=http)) as client,
        ):
            return await client.call_tool("list_collections", {})

    assert not asyncio.run(search()).is_error


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}])
def test_without_the_token_nothing_is_answered(guarded: str, given: dict[str, str]) -> None:
    answer = post(guarded, **given)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_a_request_for_another_host_is_refused(url: str, guarded: str) -> None:
    assert post(url).status_code == 200
    assert post(url, host="evil.example").status_code == 421
    assert post(guarded, host="evil.example", authorization=f"Bearer {TOKEN}").status_code == 421
    assert post(guarded, host="images.example.com", authorization=f"Bearer {TOKEN}").status_code == 200


def test_a_page_of_another_origin_is_refused(url: str) -> None:
    assert post(url, origin="https://evil.example").status_code == 403
    assert post(url, origin="http://localhost:3000").status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_parsed(url: str) -> None:
    assert post(url, {**LIST, "params": {"x": "y" * (5 << 20)}}).status_code == 413


def test_what_is_no_json_is_refused(url: str) -> None:
    answer = httpx.post(
        url, content=b"{", headers={**ACCEPT, "content-type": "application/json"}, trust_env=False, timeout=60
    )

    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["code"] == -32700


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"host": "0.0.0.0"}, "CLIP_QDRANT_MCP_TOKEN"),
        ({"host": "images.example.com"}, "CLIP_QDRANT_MCP_TOKEN"),
        ({"host": "::", "token": "x"}, "name the host"),
        ({"host": "0.0.0.0", "token": " "}, "token is empty"),
    ],
)
def test_what_would_let_anybody_in_is_refused_at_the_start(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        HttpOptions(**options)


def test_a_port_that_is_taken_is_told_of(shelf: Shelf) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot listen on"):
        serve(shelf.server, HttpOptions(port=taken.getsockname()[1]))
