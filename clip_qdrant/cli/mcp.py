"""`clip-qdrant mcp`: the images of a store as tools for assistants, over stdin and stdout or HTTP."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from clip_qdrant.cli import wiring
from clip_qdrant.hosts import parse_address

if TYPE_CHECKING:
    from clip_qdrant.collection.hits import Hit
    from clip_qdrant.integrations.mcp.http import HttpOptions
    from clip_qdrant.integrations.mcp.pictures import Previews
    from clip_qdrant.integrations.mcp.settings import McpSettings

__all__ = ["mcp"]

_PREVIEW_SECONDS = 5.0  # for all images of one answer


def mcp(
    context: typer.Context,
    collection: Annotated[
        str | None, typer.Option(help="The collection that is meant where a call names none.", metavar="NAME")
    ] = None,
    collections: Annotated[
        str | None,
        typer.Option(help="The only collections to show, with commas between them; all without.", metavar="NAMES"),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(help="Serve streamable HTTP there, at /mcp, instead of stdin and stdout.", metavar="HOST:PORT"),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(help="Hosts by which clients reach --http, with commas between them.", metavar="HOSTS"),
    ] = None,
) -> None:
    """Serve the Model Context Protocol: tools that search images, for an assistant. They read, and change nothing.

    Over HTTP the token is CLIP_QDRANT_MCP_TOKEN; without one only this computer is answered.
    """
    from clip_qdrant.integrations.mcp.server import create_server  # isort: skip  # it says what is not installed
    from clip_qdrant.integrations.mcp.catalog import CollectionCatalog
    from clip_qdrant.integrations.mcp.settings import McpSettings

    given = {"collection": collection, "mcp_collections": collections, "mcp_http": http, "mcp_names": names}
    settings = wiring.settings_of(context, given, McpSettings)
    options = _read_address(settings)
    embedder = wiring.open_embedder(settings)
    client = wiring.open_client(settings, sharing="process")
    try:
        catalog = CollectionCatalog(client, embedder, default=settings.collection, only=settings.mcp_collections)
        server = create_server(catalog, previews=_find_previews(context))
        if options is None:
            import asyncio

            asyncio.run(server.run_stdio_async())
        else:
            from clip_qdrant.integrations.mcp.http import serve

            serve(server, options, on_start=lambda url: print(f"MCP at {url}", file=sys.stderr, flush=True))
    finally:
        client.close()


def _read_address(settings: McpSettings) -> HttpOptions | None:
    """Where to listen, and for whom; None for stdin and stdout."""
    if settings.mcp_http is None:
        return None
    from clip_qdrant.integrations.mcp.http import HttpOptions

    host, port = parse_address("mcp_http", settings.mcp_http)
    token = None if settings.mcp_token is None else settings.mcp_token.get_secret_value()
    return HttpOptions(host=host, port=port, token=token, names=settings.mcp_names)


def _find_previews(context: typer.Context) -> Previews:
    """Pictures of members of archives and objects of buckets, with what the settings of ingestion say of these."""
    from clip_qdrant_ingestion.settings import IngestSettings

    settings = wiring.settings_of(context, None, IngestSettings)

    def read(hits: Sequence[Hit], side: int) -> Mapping[str, str]:
        from clip_qdrant_ingestion.sources.previews import make_previews

        limits = wiring.limits_of(settings)
        return make_previews(
            hits, limits=limits, endpoint_url=settings.endpoint_url, seconds=_PREVIEW_SECONDS, side=side
        )

    return read
