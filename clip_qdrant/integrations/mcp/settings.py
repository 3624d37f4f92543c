"""The settings of `clip-qdrant mcp`: those of the library, and its own."""

from __future__ import annotations

from pydantic import SecretStr

from clip_qdrant.settings import Settings, Text, Texts, setting

__all__ = ["McpSettings"]


class McpSettings(Settings):
    """What the library needs, and where and for whom the MCP server answers."""

    mcp_http: Text | None = setting(
        None, "where the MCP server listens; unset: it talks over stdin and stdout", "host:port or a port"
    )
    mcp_token: SecretStr | None = setting(None, "what a client of the MCP server must show over HTTP", "a text")
    mcp_names: Texts = setting(
        (), "hosts by which clients reach the MCP server over HTTP", "names, with commas between them"
    )
    mcp_collections: Texts = setting(
        (), "the only collections that the MCP server shows; unset: all", "names, with commas between them"
    )
