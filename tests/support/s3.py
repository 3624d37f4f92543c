"""An S3 server on loopback for tests: moto's, and a proxy that makes it slow and unreliable.

@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return new_bucket(monkeypatch)

with FlakyProxy(bucket.endpoint, latency=0.1, fail_share=0.05).running() as proxy:
    BucketSource(bucket.url, storage_options={"endpoint_url": proxy.url})
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import re
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from small_server import serving

_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>"
_SLOW_DOWN = _ERROR.format("SlowDown", "Please reduce your request rate.").encode()
_INTERNAL = _ERROR.format("InternalError", "We had an internal error.").encode()


@functools.cache
def s3_server() -> str:
    """The URL of moto's server, started once a process; it ends with it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    return "http://{}:{}".format(*server.get_host_and_port())


@functools.cache
def s3_client() -> Any:
    """A client of botocore, made once a process: it reads the whole description of S3. The environment says of what."""
    import botocore.session

    return botocore.session.Session().create_client("s3")


@dataclass(frozen=True)
class Bucket:
    """A bucket of its own, and what to fill it with."""

    name: str
    endpoint: str
    client: Any = field(repr=False, compare=False)  # of botocore

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, content: bytes | str = b"x", *, metadata: Mapping[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else content.encode()
        self.client.put_object(Bucket=self.name, Key=key, Body=body, Metadata=metadata or {})

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)


def new_bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, with the endpoint and the credentials of the server in the environment until the test ends."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    endpoint = s3_server()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = Bucket(f"photos-{uuid.uuid4().hex[:12]}", endpoint, s3_client())
    bucket.client.create_bucket(Bucket=bucket.name)
    return bucket


class FlakyProxy:
    """A proxy in front of an HTTP server that delays GETs, refuses a share of all requests and cuts some answers.

    `latency` in seconds for each GET. `fail_share` of the requests get 503 SlowDown or 500 InternalError instead of an
    answer, `cut_share` of the answers to GETs end in the middle of their body. Which ones, the seed, the request and
    how often it came before decide, so it does not depend on the order of threads. `down` refuses everything by 503.
    """

    def __init__(
        self, url: str, latency: float = 0.0, fail_share: float = 0.0, seed: int = 0, *, cut_share: float = 0.0
    ) -> None:
        self.target = urlsplit(url).netloc
        self.latency, self.fail_share, self.cut_share, self.seed = latency, fail_share, cut_share, seed
        self.down = False
        self.url = ""  # while it runs
        self.requests: Counter[str] = Counter()  # by method
        self.failed = 0
        self.cut = 0
        self.most_at_once = 0  # GETs
        self._at_once = 0
        self._attempts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[FlakyProxy]:
        server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        with serving(server):
            yield self

    def fate(self, method: str, path: str) -> str:
        """What becomes of a request: "slow down", "internal error", "cut" or "pass"."""
        with self._lock:
            self.requests[method] += 1
            request = f"{method} {re.sub('^/[^/?]*', '', path)}"  # without the bucket, whose name is random
            self._attempts[request] += 1
            digest = hashlib.sha256(f"{self.seed} {self._attempts[request]} {request}".encode()).digest()
            first, second = (int.from_bytes(part, "big") / 2**32 for part in (digest[:4], digest[4:8]))
            if self.down or first < self.fail_share:
                self.failed += 1
                return "slow down" if self.down or digest[8] % 2 else "internal error"
            if method == "GET" and second < self.cut_share:
                self.cut += 1
                return "cut"
            return "pass"

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep their connections open
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FlakyProxy

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate = self.proxy.fate(self.command, self.path)
        if self.command != "GET":
            self._answer(fate, body)
            return
        with self.proxy.counted():
            time.sleep(self.proxy.latency)
            self._answer(fate, body)

    def _answer(self, fate: str, body: bytes) -> None:
        if fate in ("slow down", "internal error"):
            status, content = (503, _SLOW_DOWN) if fate == "slow down" else (500, _INTERNAL)
            self._send(status, {"Content-Type": "application/xml"}, content, len(content))
            return
        backend = http.client.HTTPConnection(self.proxy.target, timeout=30)
        with contextlib.closing(backend):
            backend.request(self.command, self.path, body, dict(self.headers))
            answer = backend.getresponse()
            content = answer.read()
        headers = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server")
        }
        length = int(answer.getheader("Content-Length") or 0) if self.command == "HEAD" else len(content)
        if fate == "cut":
            self._send(answer.status, headers, content[: len(content) // 2], length)
            self.close_connection = True
            return
        self._send(answer.status, headers, content, length)

    def _send(self, status: int, headers: Mapping[str, str], content: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve
