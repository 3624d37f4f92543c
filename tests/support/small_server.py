"""A small HTTP server on the loopback address that answers as it is told, and counts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any

# What a test says of one request: status, body (JSON unless bytes), headers.
Answer = tuple[int, Any, dict[str, str]]


class SmallServer:
    """`requests` holds (method, path, headers) of each request; `answers` is called with its number, from 0."""

    def __init__(self, answers: Callable[[int], Answer]) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                with outer._lock:
                    number = len(outer.requests)
                    outer.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
                status, body, headers = answers(number)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[SmallServer]:
        with serving(self._server):
            yield self


@contextmanager
def serving(server: HTTPServer) -> Iterator[None]:
    """The server answers, from a thread, while it lasts; then it is closed."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ok(result: Any) -> Answer:
    """A good answer of Qdrant."""
    return 200, {"result": result, "status": "ok", "time": 0.0}, {}


def refusal(status: int, error: str) -> Answer:
    """A refusal in the words of Qdrant."""
    return status, {"status": {"error": error}, "time": 0.0}, {}
