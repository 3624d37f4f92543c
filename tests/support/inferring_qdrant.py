"""A Qdrant server that has documents and images embedded elsewhere, as a real one whose `inference.address` is set.

It is the real engine behind Qdrant's REST API (edge_api.py); before a request is done, every document, image and
object in it is replaced by the vector that the address answers with, all of a request in one call.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from edge_api import EdgeApi, error_body
from small_server import serving

__all__ = ["run_inferring_qdrant"]

_TYPES = {"text": "text", "image": "image", "object": "object"}


@contextlib.contextmanager
def run_inferring_qdrant(folder: Path, address: str, *, token: str | None = None) -> Iterator[str]:
    """Its URL. `token` is that of its configuration, `inference.token`."""
    api = EdgeApi(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, answer = _infer_and_answer(api, self.command, self.path, body, address, token)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with api.client, serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def _infer_and_answer(
    api: EdgeApi, method: str, path: str, body: bytes, address: str, token: str | None
) -> tuple[int, bytes]:
    found: list[dict[str, Any]] = []
    said = json.loads(body) if body else None
    _replace(said, lambda one: found.append(one) or one)
    if not found:
        return api.answer(method, path, body)
    kind = "update" if method == "PUT" else "search"
    inputs = [_describe(one) for one in found]
    answer = httpx.post(address, json={"inputs": inputs, "inference": kind, "token": token}, timeout=30)
    if answer.status_code == 400:
        return 400, error_body(f"Inference request validation failed: {answer.json()['error']}")
    if answer.status_code == 429:
        return 429, error_body(f"Rate limit exceeded: {answer.json()['error']}")
    if answer.status_code != 200:
        return 500, error_body(f"Service internal error: inference answered {answer.status_code}")
    vectors = iter(answer.json()["embeddings"])
    return api.answer(method, path, json.dumps(_replace(said, lambda _: next(vectors))).encode())


def _describe(one: dict[str, Any]) -> dict[str, Any]:
    kind = next(name for name in _TYPES if name in one)
    return {"data": one[kind], "data_type": kind, "model": one["model"], "options": one.get("options")}


def _replace(value: Any, change: Any) -> Any:
    """The value with what is to be embedded in it changed, in the order in which it stands there."""
    if isinstance(value, list):
        return [_replace(one, change) for one in value]
    if isinstance(value, dict):
        if "model" in value and value.keys() & _TYPES.keys():
            return change(value)
        return {key: one if key == "payload" else _replace(one, change) for key, one in value.items()}
    return value
