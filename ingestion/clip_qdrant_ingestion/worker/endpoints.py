"""A small HTTP server that says how the worker is, and takes events.

GET /live        200, or 503 if the worker has stopped to turn
GET /ready       200, or 503 with the reason: the model is not loaded, the store does not answer
GET /metrics     Prometheus' text format
GET /progress    JSON: the run at hand, and how the last one ended
POST /events     S3 event notifications (`worker.events.messages`): 202 when they wait for the next run
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import socket
import socketserver
import sys
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from socket import AF_INET, AF_INET6
from typing import Any, cast

from clip_qdrant.errors import ConfigError
from clip_qdrant.hosts import is_loopback
from clip_qdrant_ingestion.worker.events.messages import LONGEST_MESSAGE, Change, parse_events
from clip_qdrant_ingestion.worker.health import Health
from clip_qdrant_ingestion.worker.metrics import CONTENT_TYPE

__all__ = ["serve"]

logger = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds for a client to send the next part of its request
_CONNECTIONS = 16  # at once; beyond that the oldest is cut off, so that a probe always finds room
_DIGITS = 12  # of a Content-Length
_LONGEST_HEAD = 1 << 15  # bytes of all header lines
_SWALLOWED = 8 * LONGEST_MESSAGE  # of a body that is refused; a client that sends more is cut off


@contextlib.contextmanager
def serve(
    health: Health,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    on_events: Callable[[list[Change]], None] | None = None,
    token: str | None = None,
) -> Iterator[str]:
    """Serves while it lasts, from a thread, and gives the URL; port 0 takes a free one.

    `on_events` gets the changes of `POST /events`; without it there is no such path. With `token` these need the header
    `Authorization: Bearer TOKEN`, or the token as a password (Basic), as SNS sends it; without one they are taken on
    loopback alone. Raises ConfigError if it cannot listen there.
    """
    refuses = on_events is not None and token is None and not is_loopback(host)
    if refuses:
        logger.warning(
            "events are refused at %s, where anybody may send them: set CLIP_QDRANT_EVENTS_TOKEN to take them", host
        )
    try:
        server = _Server(host, port, health, on_events=on_events, token=token, refuses=refuses)
    except (OSError, OverflowError) as error:
        told = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot serve health on {host}:{port}: {told}; choose another port, or 0 for any that is free"
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="health", daemon=True)
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # that wait to be accepted; of more, some wait for a second or longer

    def __init__(
        self,
        host: str,
        port: int,
        health: Health,
        *,
        on_events: Callable[[list[Change]], None] | None,
        token: str | None,
        refuses: bool,
    ) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self.health, self.on_events, self.token, self.refuses = health, on_events, token, refuses
        self._open: dict[socket.socket, None] = {}  # in the order in which they came
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks a name server for this host's name

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            for oldest in list(self._open)[: len(self._open) - _CONNECTIONS + 1]:
                del self._open[oldest]
                with contextlib.suppress(OSError):  # it has ended by itself
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        error = sys.exc_info()[1]
        if isinstance(error, OSError):  # the client went away
            logger.debug("a request from %s broke off: %s", client_address, error)
        else:
            logger.warning("a request from %s failed", client_address, exc_info=True)


class _Head:
    """The header lines of a request, up to _LONGEST_HEAD bytes; `left` is negative if there were more."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream, self.left = stream, _LONGEST_HEAD

    def readline(self, size: int) -> bytes:
        line = self._stream.readline(min(size, self.left + 1)) if self.left >= 0 else b""
        self.left -= len(line)
        return line


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE
    server_version, sys_version = "clip-qdrant", ""

    def parse_request(self) -> bool:
        stream, head = self.rfile, _Head(self.rfile)
        self.rfile = cast(BufferedIOBase, head)
        try:
            parsed = super().parse_request()
        finally:
            self.rfile = stream
        if parsed and head.left < 0:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        return parsed

    def do_GET(self) -> None:
        health = self.server.health
        path = self.path.partition("?")[0]
        if path in ("/live", "/ready"):
            reason = health.not_live() if path == "/live" else health.not_ready()
            self._tell(HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE, reason or "ok")
        elif path == "/progress":
            self._answer(HTTPStatus.OK, json.dumps(health.document()).encode(), "application/json")
        elif path == "/metrics" and (metrics := health.metrics()) is not None:
            self._answer(HTTPStatus.OK, metrics, CONTENT_TYPE)
        elif path == "/events" and self.server.on_events is not None:
            self._tell(HTTPStatus.METHOD_NOT_ALLOWED, "POST events here")
        else:
            self._tell(HTTPStatus.NOT_FOUND, f"there is no {path}")

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdigit() and len(size) <= _DIGITS):
            self._tell(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length, or none that a request can have")
            return
        refusal = self._refusal(int(size))
        if refusal is None:
            self._take(self.rfile.read(int(size)))
        else:
            self._swallow(int(size))
            self._tell(*refusal)

    def _refusal(self, size: int) -> tuple[HTTPStatus, str] | None:
        if self.path.partition("?")[0] != "/events" or self.server.on_events is None:
            return HTTPStatus.NOT_FOUND, "events go to /events, where the worker takes them"
        if self.server.refuses:
            return HTTPStatus.FORBIDDEN, "events are taken here only once CLIP_QDRANT_EVENTS_TOKEN is set"
        if not self._authorized():
            return HTTPStatus.UNAUTHORIZED, "the header Authorization: Bearer TOKEN is missing or wrong"
        if size > LONGEST_MESSAGE:
            told = f"{size} bytes are more than the {LONGEST_MESSAGE} of the longest message"
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told
        return None

    def _take(self, body: bytes) -> None:
        assert self.server.on_events is not None
        try:
            changes = parse_events(body)
        except ConfigError as error:
            self._tell(HTTPStatus.BAD_REQUEST, str(error))
            return
        self.server.on_events(changes)
        self._tell(HTTPStatus.ACCEPTED, f"changes: {len(changes)}")

    def _authorized(self) -> bool:
        if self.server.token is None:
            return True
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given.startswith("Basic "):
            with contextlib.suppress(ValueError):
                given = b64decode(given.removeprefix("Basic ")).decode().partition(":")[2]
        return hmac.compare_digest(given.encode(errors="replace"), self.server.token.encode())

    def _swallow(self, size: int) -> None:
        """Reads what a client is still sending: one that is hung up on does not see the answer."""
        left = min(size, _SWALLOWED)
        while left > 0 and (block := self.rfile.read(min(left, 1 << 16))):
            left -= len(block)

    def _tell(self, status: HTTPStatus, text: str) -> None:
        self._answer(status, f"{text}\n".encode(errors="backslashreplace"), "text/plain; charset=utf-8")

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        if status == HTTPStatus.UNAUTHORIZED:
            # SNS sends its password only when it is asked for it.
            self.send_header("WWW-Authenticate", 'Basic realm="events"')
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s: %s", self.client_address[0], format % args)
