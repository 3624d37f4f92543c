"""connect(location): the Qdrant that a location names, as a client. Nothing is sent or opened until the first call."""

from __future__ import annotations

import logging
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient, models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.errors import ConfigError
from clip_qdrant.hosts import is_loopback
from clip_qdrant.url_secrets import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from pydantic import SecretStr

__all__ = ["connect", "is_embedded", "is_folder"]

logger = logging.getLogger(__name__)

_HAS_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST_AND_PORT = re.compile(r"[\w.-]+:\d+/?")
# A host that does not answer at all is given up after this, however long an answer may take.
_CONNECT_SECONDS = 2.0


def connect(
    location: str | Path = "./qdrant-data",
    *,
    api_key: str | SecretStr | None = None,
    timeout: int = 10,
    ca_file: str | Path | None = None,
    prefer_grpc: bool = False,
    grpc_port: int = 6334,
    shared: bool = False,
) -> QdrantBase:
    """A client for a Qdrant server (`http(s)://host:port`), a local folder, or `:memory:`.

    A URL without a port means 6333, as everywhere with Qdrant; behind a proxy write `https://host:443`. The
    rest is for a server: `api_key`; `timeout`, seconds for the answer to one request (connecting gets 2 at most);
    `ca_file`, certificates (PEM) of a private authority that are trusted beside the usual ones; `prefer_grpc`, which
    saves a quarter of the time of a search, over `grpc_port`. Makes no network call.

    `shared` is for a folder: several processes may use it at once. The first call starts a process that has the store
    open, or joins the one there is; it ends with the last of its users. Without `shared` such a process is joined if
    there is one, else the store is opened in this process, and is closed to others until the client is closed.

    Raises ConfigError for a location that is none of the three, and for a `ca_file` that holds no certificate.
    """
    if not isinstance(timeout, int | float) or timeout <= 0:
        raise ConfigError(f"timeout is {timeout!r}: it must be a positive number of seconds")
    if not isinstance(location, str | Path):
        raise ConfigError(f"the location of the store is {location!r}: give a URL, a folder or :memory:")
    if isinstance(location, str):
        if location == ":memory:":
            if shared:
                raise ConfigError("a store in memory cannot be shared with other processes; give a folder")
            return _InMemoryClient(":memory:")
        if scheme := _HAS_SCHEME.match(location):
            if scheme[1].lower() not in ("http", "https"):
                raise ConfigError(f"{mask_secrets(location)!r}: a store is http://…, https://…, a folder or :memory:")
            return _server(location, api_key, timeout, ca_file, grpc_port if prefer_grpc else None)
        if _HOST_AND_PORT.fullmatch(location):
            raise ConfigError(
                f"{location!r} looks like a server; write http://{location} (or ./{location} for a folder)"
            )
        if not location.strip():
            raise ConfigError("the location of the store is empty; give a URL, a folder or :memory:")
    from clip_qdrant.store.edge.process.address import is_taken

    if shared or is_taken(Path(location).expanduser()):
        from clip_qdrant.store.edge.process.client import SharedEdgeClient

        return SharedEdgeClient(location)
    from clip_qdrant.store.edge.client import EdgeClient

    return EdgeClient(location)


def is_folder(location: str | Path) -> bool:
    """Whether a location that `connect` takes is an embedded store."""
    return isinstance(location, Path) or (location != ":memory:" and _HAS_SCHEME.match(location) is None)


def is_embedded(client: QdrantBase) -> bool:
    """Whether a client is one of an embedded store, be it open in this process or in one of its own."""
    from clip_qdrant.store.edge.client import EdgeClient
    from clip_qdrant.store.edge.process.client import SharedEdgeClient

    return isinstance(client, EdgeClient | SharedEdgeClient)


class _InMemoryClient(QdrantClient):
    """Does without payload indexes. The client warns that they have no effect; a store of a few images needs none."""

    def create_payload_index(self, *_args: Any, **_options: Any) -> models.UpdateResult:
        return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


def _server(
    url: str, api_key: str | SecretStr | None, timeout: int, ca_file: str | Path | None, grpc_port: int | None
) -> QdrantClient:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError as error:
        what = re.sub(r"port .*", "port is no number", str(error), flags=re.IGNORECASE)  # it may be half a password
        raise ConfigError(f"{mask_secrets(url)!r} is not a URL: {what} (in a password, / is %2F)") from error
    if not host:
        raise ConfigError(f"{mask_secrets(url)!r} has no host; write http://host:6333")
    headers = {}
    key = api_key if api_key is None or isinstance(api_key, str) else api_key.get_secret_value()
    if key:
        # As a header: the client's own api_key argument warns on each plain-http URL, the local one too.
        headers["api-key"] = key
        if parts.scheme.lower() == "http" and not is_loopback(host):
            logger.warning("the API key travels unencrypted to %s; use https", host)
    client = QdrantClient(
        url=url,
        timeout=timeout,
        headers=headers,
        check_compatibility=False,
        prefer_grpc=grpc_port is not None,
        grpc_port=grpc_port or 6334,
        **(_trust(Path(ca_file)) if ca_file is not None else {}),
    )
    client.http.client.add_middleware(_limit_connecting)
    return client


def _trust(ca_file: Path) -> dict[str, Any]:
    """Arguments of QdrantClient by which it trusts the certificates of a file too."""
    try:
        context = ssl.create_default_context()
        context.load_verify_locations(ca_file)
        return {"verify": context, "grpc_options": {"root_certificates": ca_file.read_bytes()}}
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file {str(ca_file)!r} holds no certificate in PEM that can be read ({error})") from error


def _limit_connecting(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    limits = request.extensions.get("timeout", {})
    if (limits.get("connect") or _CONNECT_SECONDS) >= _CONNECT_SECONDS:
        request.extensions["timeout"] = {**limits, "connect": _CONNECT_SECONDS}
    return send(request)
