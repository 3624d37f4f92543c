"""Calls of MCP tools by the official client, one session each."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp import Client
from mcp.types import CallToolResult, TextContent


def call_tool(server: Any, name: str, **arguments: Any) -> CallToolResult:
    """What a tool of a server (in this process, or at a URL) answers."""

    async def call() -> CallToolResult:
        async with Client(server) as client:
            return await client.call_tool(name, arguments)

    return asyncio.run(call())


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def error_of(server: Any, name: str, **arguments: Any) -> str:
    """The text of a refusal."""
    result = call_tool(server, name, **arguments)
    assert result.is_error
    return text_of(result)
