"""The service behind a socket: uvicorn, ended in order.

Told to end (SIGTERM, Ctrl-C), it says so to whoever asks whether it is ready, goes on answering for a while, so that
load balancers can turn elsewhere, then takes no more connections and finishes the requests in hand. Told so again, it
ends at once.
"""

from __future__ import annotations

import math
import socket
import sys
import time
from types import FrameType

import uvicorn

from clip_qdrant.errors import ConfigError
from clip_qdrant.service.app import create_app
from clip_qdrant.service.state import Service

__all__ = ["listen", "make_server", "run_server"]

_KEEP_ALIVE = 30  # seconds that a connection may be idle
# How long a thread keeps the interpreter while others wait for it. Python's 5 ms are long for those that take requests
# and feed the encoder while searches compute: with 32 clients there are a third more searches a second.
_SWITCH_SECONDS = 0.0005


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to this address, so that nobody else takes it while the model is loaded. Raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"the service cannot listen at host {host!r}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the service cannot listen at {host} port {port}: {error.strerror or error} (--host, --port)"
        ) from error
    return listener


def run_server(service: Service, listener: socket.socket, *, drain: float) -> None:
    """Answers until the process is told to end; then for `drain` seconds more, and for the requests in hand."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    make_server(service, drain=drain).run([listener])


def make_server(service: Service, *, drain: float) -> uvicorn.Server:
    """What `run_server` runs: its `handle_exit` is called by signals."""
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,  # it would log queries, which may hold secrets
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(service.options.deadline),
    )
    return _DrainingServer(config, service, drain)


class _DrainingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, drain: float) -> None:
        super().__init__(config)
        self._service = service
        self._drain = drain
        self._last = math.inf  # the moment from which no new connections are taken

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  as uvicorn calls it
        # Not uvicorn's own, which raises the signal again at the end: the store is to be closed after it.
        if self._service.state == "draining":
            self.should_exit = self.force_exit = True
        else:
            self._service.drain()
            self._last = time.monotonic() + self._drain

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self._last
        return await super().on_tick(counter)
