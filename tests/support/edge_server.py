"""A Qdrant server for tests: Qdrant's REST API in a process of its own, over EdgeClient and so the real engine.

    python tests/support/edge_server.py FOLDER --port 6333 --fail-share 0.1 --latency 0.02

An ordinary QdrantClient(url=...) works against it for all that this package calls. An acknowledged write survives
kill -9. Every write is done when it is answered, also with wait=false. What the engine cannot do is answered 501.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from edge_api import EdgeApi, error_body
from forks import FORKS

__all__ = ["EdgeServer"]


class EdgeServer:
    """The server as a process, which ends with the one that started it. It answers once this object is made.

    `port` is a free one unless given. `fail_share` (0 to 1) of the requests go wrong, in four ways alike often: 503
    before or after the work is done, the connection cut before or after it. `seed` chooses which. `latency` is in
    seconds, for every request. These may be changed; they hold from the next `restart`. `strict` is the strict mode of
    collections that do not say theirs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        fail_share: float = 0.0,
        seed: int = 0,
        latency: float = 0.0,
        strict: dict[str, Any] | None = None,
    ) -> None:
        self.strict = strict or {}
        self.folder = folder
        self.fail_share = fail_share
        self.seed = seed
        self.latency = latency
        self._process = self._start(port or 0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL, as by the system when memory runs out. No error if it runs no more."""
        self._process.kill()
        self._process.join()
        self._alive.close()

    def restart(self) -> None:
        """Kills it if it runs; starts it on the same folder and port."""
        self.kill()
        self._process = self._start(self.port)

    def __enter__(self) -> EdgeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _start(self, port: int) -> ForkServerProcess:
        here, there = FORKS.Pipe()
        settings = _Settings(self.folder, port, self.fail_share, self.seed, self.latency, self.strict)
        process = FORKS.Process(target=_serve_until_left, args=(settings, there), daemon=True)
        process.start()
        there.close()
        self._alive = here  # it ends when this end is closed, by whatever death of this process
        self.port, complaint = here.recv()
        if complaint:
            process.join()
            raise RuntimeError(f"the server on {self.folder} did not start: {complaint}")
        return process


@dataclass(frozen=True)
class _Settings:
    folder: Path
    port: int
    fail_share: float
    seed: int
    latency: float
    strict: dict[str, Any]


def _serve_until_left(settings: _Settings, alive: Connection) -> None:
    """In a process of its own. Tells its port, or what is wrong."""

    def end() -> None:
        with contextlib.suppress(EOFError, OSError):
            alive.recv()
        os._exit(0)

    try:
        with _serving(settings) as server:
            alive.send((server.server_port, ""))
            threading.Thread(target=end, daemon=True).start()
            server.serve_forever()
    except OSError as error:
        alive.send((0, str(error)))


@contextlib.contextmanager
def _serving(settings: _Settings) -> Iterator[_Server]:
    settings.folder.mkdir(parents=True, exist_ok=True)
    api = EdgeApi(settings.folder, strict=settings.strict)
    parts = {"reply": staticmethod(api.answer), "faults": _Faults(settings.fail_share, settings.seed)}
    handler = type("Handler", (_Handler,), {**parts, "latency": settings.latency})
    with api.client, _Server(("127.0.0.1", settings.port), handler) as server:
        yield server


class _Faults:
    """Draws for each request how it fails, "refused" or "cut", and when, "before" or "after" the work; "", "" if not.

    Safe to use from several threads.
    """

    def __init__(self, share: float, seed: int) -> None:
        self._share = share
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def draw(self) -> tuple[str, str]:
        with self._lock:
            if self._random.random() >= self._share:
                return "", ""
            return self._random.choice(["refused", "cut"]), self._random.choice(["before", "after"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; the second would wait 40 ms for the first
    # Set on a subclass, by which http.server makes one handler a connection.
    reply: Callable[[str, str, bytes], tuple[int, bytes]]
    faults: _Faults
    latency: float

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        time.sleep(self.latency)
        failure, when = self.faults.draw()
        status, answer = 503, error_body("Service unavailable: as the test asked")
        if when != "before":
            done = self.reply(self.command, self.path, body)
            if not when:
                status, answer = done
        if failure == "cut":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        if status == 429:
            self.send_header("retry-after", "1")
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that is killed while it waits for its answer is what some tests are about.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser(description="Qdrant's REST API over an embedded store, for tests.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=6333, help="0 takes a free one (default %(default)s)")
    parser.add_argument("--fail-share", type=float, default=0.0, help="share of requests that go wrong, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="chooses which")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each request takes at least")
    parser.add_argument("--strict", type=json.loads, default={}, help="strict mode of new collections, as JSON")
    asked = parser.parse_args()
    with _serving(_Settings(**vars(asked))) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
