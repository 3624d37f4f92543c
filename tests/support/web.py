"""A small web site on the loopback address: what a path answers is bytes, headers, or a function that writes it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from small_server import serving


@dataclass
class Reply:
    """One answer; its length is told unless `headers` do."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Page = bytes | Reply | Callable[[BaseHTTPRequestHandler], None]


class WebSite:
    """`pages` maps paths (with query) to answers, others are 404; `requests` holds (method, path, headers) of each."""

    def __init__(self, address: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def answer(self) -> None:
                outer.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                page = outer.pages.get(self.path, Reply(b"not here", 404))
                if callable(page):
                    page(self)
                    return
                reply = page if isinstance(page, Reply) else Reply(page)
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_HEAD = answer

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:  # clients go away in the middle of an answer: that is tested
                pass

        self._server = Server((address, 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'http' if tls is None else 'https'}://{address}:{self.port}"

    @contextmanager
    def running(self) -> Iterator[WebSite]:
        with serving(self._server):
            yield self
