"""The server over streamable HTTP, at /mcp: with a token anywhere, without one for this computer alone.

A page in a browser may try to reach a server at 127.0.0.1 by a name of its own (DNS rebinding), so requests for other
hosts than those named are refused, and so are those that pages of other origins make.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings

from clip_qdrant.errors import ConfigError
from clip_qdrant.hosts import is_loopback

if TYPE_CHECKING:
    from mcp.server import MCPServer

__all__ = ["PATH", "HttpOptions", "create_app", "serve"]

PATH = "/mcp"
_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_MOST_BYTES = 4 << 20  # of a request; an image that is handed over has to fit
_AT_ONCE = 64  # connections, idle ones too; where there are so many, requests are answered with 503

Application = Callable[[MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Where is listened, what clients must show (`Authorization: Bearer TOKEN`), and by which names they come.

    Raises ConfigError for what would let anybody in.
    """

    host: str = "127.0.0.1"
    port: int = 8090
    token: str | None = None
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.token is not None and not self.token.strip():
            raise ConfigError("the token is empty: set one (CLIP_QDRANT_MCP_TOKEN), or none at all")
        if is_loopback(self.host):
            return
        if self.token is None:
            raise ConfigError(
                f"{self.host} is reached from other computers, and there is no token: set one (CLIP_QDRANT_MCP_TOKEN), "
                "or listen on 127.0.0.1"
            )
        if not self.names and _is_any(self.host):
            raise ConfigError(
                f"{self.host} is no name that clients come by: name the host they ask for, such as "
                "images.example.com (--names, or CLIP_QDRANT_MCP_NAMES)"
            )

    @property
    def hosts(self) -> list[str]:
        """What the Host header of a request may say, each with any port and without one."""
        bare = f"[{self.host}]" if ":" in self.host else self.host
        names = dict.fromkeys([*self.names, *([] if _is_any(self.host) else [bare]), *_LOCAL])
        return [one for name in names for one in (name, f"{name}:*")]


def create_app(server: MCPServer, options: HttpOptions) -> Application:
    """The server as an ASGI application, with all checks in front of it."""
    security = TransportSecuritySettings(
        allowed_hosts=options.hosts,
        allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in options.hosts],
    )
    app: Application = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        json_response=True,
        max_request_body_size=_MOST_BYTES,
        transport_security=security,
    )
    return app if options.token is None else _ask_for_token(app, options.token)


def serve(server: MCPServer, options: HttpOptions, *, on_start: Callable[[str], None] = lambda _: None) -> None:
    """Serves until SIGINT or SIGTERM. `on_start` is told the URL. Raises ConfigError if it cannot listen there."""
    with _listen(options) as listener:
        port = listener.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        config = uvicorn.Config(
            create_app(server, options),
            log_level=logging.WARNING,
            log_config=None,
            server_header=False,
            limit_concurrency=_AT_ONCE,
            timeout_graceful_shutdown=10,
        )
        on_start(f"http://{host}:{port}{PATH}")
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def _listen(options: HttpOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        told = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {options.host}:{options.port}: {told}; choose another port, or 0 for any that is free"
        ) from error


def _ask_for_token(app: Application, token: str) -> Application:
    """The application behind a token. What is wrong is answered before anything of the request is read."""
    expected = f"Bearer {token}".encode()

    async def checked(
        scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] != "http" or hmac.compare_digest(given, expected):
            await app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"the header Authorization: Bearer TOKEN is needed\n"})

    return checked


def _is_any(host: str) -> bool:
    """Whether a server that listens there answers at all addresses of its computer."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
