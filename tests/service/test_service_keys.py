"""Keys: who is let in, with which scopes, to which collections, and how keys change while the service runs."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fakes import FakeEmbedder
from fastapi import Depends, FastAPI
from running_service import run_app

from clip_qdrant.errors import ConfigError, Forbidden, Unauthorized
from clip_qdrant.service.app import create_app
from clip_qdrant.service.keys.file import read_key_file
from clip_qdrant.service.keys.key import ApiKey, Tenant
from clip_qdrant.service.keys.ring import KeyRing
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.security.access import Access, needs
from clip_qdrant.service.state import Service
from clip_qdrant.store.edge.client import EdgeClient

READER, WRITER, ADMIN, HASHED = ("r" * 20, "w" * 20, "a" * 20, "h" * 20)
FILE = f"""
[[keys]]
name = "reader"
key = "{READER}"
scopes = ["read"]
collections = ["photos"]

[[keys]]
name = "writer"
key = "{WRITER}"
scopes = ["write"]

[[keys]]
name = "tenant"
sha256 = "{hashlib.sha256(HASHED.encode()).hexdigest()}"
scopes = ["read", "write"]
tenant = {{ field = "customer", value = "acme" }}
"""


def add_routes(app: FastAPI) -> None:
    @app.get("/read")
    async def read(access: Annotated[Access, Depends(needs("read"))], collection: str = "photos") -> str:
        access.open(collection, create=True)
        return access.key.name

    @app.get("/write")
    async def write(access: Annotated[Access, Depends(needs("write"))]) -> str:
        return access.key.name

    @app.get("/admin")
    async def administer(access: Annotated[Access, Depends(needs("admin"))]) -> str:
        return access.key.name


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, file: Path) -> Iterator[str]:
    """A service that asks for keys."""
    keys = KeyRing({ADMIN: ApiKey(name="admin", scopes=frozenset({"read", "write", "admin"}))}, file=file)
    with contextlib.closing(EdgeClient(tmp_path_factory.mktemp("store"))) as client:
        app = create_app(Service(client, FakeEmbedder(), keys=keys))
        add_routes(app)
        with run_app(app) as url:
            yield url


@pytest.fixture(scope="module")
def open_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service without keys."""
    options = ServiceOptions(cors_origins=("https://photos.example.com",))
    with contextlib.closing(EdgeClient(tmp_path_factory.mktemp("store"))) as client:
        app = create_app(Service(client, FakeEmbedder(), options))
        add_routes(app)
        with run_app(app) as url:
            yield url


def ask(url: str, path: str, key: str | None = None, **headers: str) -> httpx.Response:
    return httpx.get(url + path, headers={**({"api-key": key} if key else {}), **headers}, timeout=60)


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        *((None, path, 401) for path in ("/read", "/write", "/admin", "/metrics")),
        *(("x" * 20, path, 401) for path in ("/read", "/write", "/admin", "/metrics")),
        *((READER, path, status) for path, status in (("/read", 200), ("/write", 403), ("/admin", 403))),
        *((WRITER, path, status) for path, status in (("/read", 403), ("/write", 200), ("/admin", 403))),
        *((ADMIN, path, 200) for path in ("/read", "/write", "/admin", "/metrics")),
        (HASHED, "/write", 200),
        (READER, "/read?collection=others", 403),
        (ADMIN, "/read?collection=others", 200),
        *((None, path, 200) for path in ("/healthz", "/openapi.json")),
    ],
)
def test_a_key_opens_what_its_scopes_and_collections_say(url: str, key: str | None, path: str, status: int) -> None:
    answer = ask(url, path, key)

    assert answer.status_code == status, answer.text
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["type"] == "urn:clip-qdrant:Unauthorized"
        assert (key or "none") not in answer.text


@pytest.mark.parametrize("header", ["Authorization", "api-key", "X-API-Key"])
def test_a_key_comes_in_one_of_three_headers(url: str, header: str) -> None:
    value = f"Bearer {READER}" if header == "Authorization" else READER

    assert ask(url, "/read", **{header: value}).json() == "reader"
    assert ask(url, "/read?api-key=" + READER).status_code == 401  # an address is logged and kept in many places


def test_keys_change_with_their_file_and_a_damaged_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(FILE)
    ring = KeyRing(file=file)
    assert ring.find(READER).name == "reader"

    new = tmp_path / "new.toml"
    new.write_text(FILE.replace(READER, "n" * 20))
    new.replace(file)
    assert ring.find("n" * 20).name == "reader"
    with pytest.raises(Unauthorized, match="not known here, or not any more"):
        ring.find(READER)

    file.write_text(f'[[keys]]\nname = "x"\nkey = "{READER}"\nscopes = ["owner"]\n')
    assert ring.find("n" * 20).name == "reader"
    assert "stay in force" in caplog.text
    assert READER not in caplog.text

    file.unlink()
    assert ring.find("n" * 20).name == "reader"

    file.write_text("")
    assert not ring.is_open  # no key is no open door
    with pytest.raises(Unauthorized):
        ring.find("n" * 20)


def entry(**values: Any) -> str:
    named = {"name": '"a"', "key": f'"{READER}"', "scopes": '["read"]', **values}
    return "[[keys]]\n" + "\n".join(f"{name} = {value}" for name, value in named.items() if value is not None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("keys = 3", "keys: "),
        (entry(key='"short"'), "keys.1.key: "),
        (entry(key=None), "give either key or sha256"),
        (entry(sha256=f'"{"0" * 64}"'), "give either key or sha256"),
        (entry(key=None, sha256='"12"'), "keys.1.sha256"),
        (entry(scopes='["owner"]'), "one or more of read, write, admin"),
        (entry(scopes="[]"), "one or more of read, write, admin"),
        (entry(name='"a\\nb"'), "keys.1.name"),
        (entry(colections='["photos"]'), "keys.1.colections"),
        (entry(scopes='["admin"]', tenant='{ field = "f", value = "v" }'), "over all"),
        (entry(tenant='{ field = "a.b", value = "v" }'), "keys.1.tenant.field"),
        (entry() + "\n" + entry(), "two keys of the name 'a'"),
        (f'key = "{READER}', "not a TOML file"),
    ],
)
def test_a_wrong_file_is_refused_without_showing_a_key(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as error:
        read_key_file(file)

    assert told in str(error.value)
    assert READER not in str(error.value)
    assert "short" not in str(error.value)


def test_a_file_of_keys_says_what_each_may_do(file: Path) -> None:
    assert sorted(read_key_file(file).values(), key=lambda key: key.name) == [
        ApiKey(name="reader", scopes=frozenset({"read"}), collections=frozenset({"photos"})),
        ApiKey(name="tenant", scopes=frozenset({"read", "write"}), tenant=Tenant("customer", "acme")),
        ApiKey(name="writer", scopes=frozenset({"write"})),
    ]


def test_a_missing_file_and_a_short_key_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the keys"):
        KeyRing(file=tmp_path / "none.toml")
    with pytest.raises(ConfigError, match=r"has 5 characters.*openssl rand"):
        KeyRing({"short": ApiKey(name="admin", scopes=frozenset({"admin"}))})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Host": "rebound.example.com"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://photos.example.com"}, 200),
        ({"Origin": "http://{host}"}, 200),
    ],
)
def test_without_keys_pages_of_others_are_refused(open_url: str, headers: dict[str, str], status: int) -> None:
    host = open_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=5)
    connection.request("GET", "/write", headers={name: value.format(host=host) for name, value in headers.items()})

    with contextlib.closing(connection):
        answer = connection.getresponse()
        assert answer.status == status
        if status == 403:
            assert b"set keys for the service" in answer.read()


def test_without_keys_only_its_own_computer_is_answered(open_url: str) -> None:
    from starlette.requests import Request

    service = Service.__new__(Service)
    service.keys, service.options = KeyRing(), ServiceOptions()
    app = FastAPI()
    app.state.service = service
    scope = {"type": "http", "app": app, "server": ("192.0.2.1", 80), "headers": [(b"host", b"localhost")]}
    from clip_qdrant.service.security.access import find_caller

    with pytest.raises(Forbidden, match="its own computer alone"):
        find_caller(Request(scope), None)


def test_only_named_origins_may_read_answers(open_url: str) -> None:
    named = ask(open_url, "/read", Origin="https://photos.example.com")
    foreign = ask(open_url, "/healthz", Origin="https://evil.example.com")

    assert named.headers["Access-Control-Allow-Origin"] == "https://photos.example.com"
    assert "ETag" in named.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in foreign.headers


def test_a_preflight_is_answered_without_a_key(open_url: str) -> None:
    headers = {"Origin": "https://photos.example.com", "Access-Control-Request-Method": "DELETE"}

    answer = httpx.options(
        open_url + "/read", headers={**headers, "Access-Control-Request-Headers": "api-key"}, timeout=60
    )

    assert answer.status_code == 200
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]


def test_logs_and_metrics_show_no_key_and_no_query(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "clip_qdrant")

    ask(url, f"/read?token={'t' * 20}", READER)
    ask(url, "/nothing/" + "p" * 20, "k" * 20)
    metrics = ask(url, "/metrics", ADMIN).text

    log = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("clip_qdrant"))
    assert "GET /read 200" in log
    for secret in (READER, "k" * 20, "t" * 20, "p" * 20):
        assert secret not in log
        assert secret not in metrics
    assert 'clip_qdrant_service_requests_total{method="GET",route="/read",status="200"}' in metrics
    assert 'clip_qdrant_service_queue_length{queue="threads"} 0.0' in metrics


def test_the_file_is_looked_at_by_what_it_is_not_by_its_time(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(FILE)
    before = file.stat()
    ring = KeyRing(file=file)

    new = tmp_path / "new.toml"
    new.write_text(FILE.replace(READER, "n" * 20))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)

    assert ring.find("n" * 20).name == "reader"
