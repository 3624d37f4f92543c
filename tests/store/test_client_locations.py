"""connect(location) tells servers, folders and memory apart, touches no network, and refuses the rest."""

from __future__ import annotations

import logging
import socket
import threading
import warnings
from pathlib import Path

import pytest
from pydantic import SecretStr
from qdrant_client import QdrantClient, models
from qdrant_client.common import client_warnings
from small_server import SmallServer, ok

from clip_qdrant.cli import wiring
from clip_qdrant.errors import ConfigError
from clip_qdrant.settings import Settings
from clip_qdrant.store.connect import connect
from clip_qdrant.store.edge.client import EdgeClient


def test_a_folder_is_an_embedded_store(tmp_path: Path) -> None:
    for location in (tmp_path / "new", str(tmp_path / "new")):
        with connect(location) as client:  # type: ignore[attr-defined]  # EdgeClient, as the next line checks
            assert isinstance(client, EdgeClient)
    assert not (tmp_path / "new").exists()


def test_the_default_is_a_folder_next_to_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    client = connect()
    client.create_collection("c", models.VectorParams(size=2, distance=models.Distance.COSINE))
    client.close()

    assert (tmp_path / "qdrant-data" / "store.json").exists()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert repr(connect("~/photos")) == f"EdgeClient({str(tmp_path / 'photos')!r})"


def test_memory_is_the_store_of_qdrant_client_without_its_news_about_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_warnings, "SEEN_MESSAGES", set())  # or an earlier test may have had the news
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = connect(":memory:")
        client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))
        client.create_payload_index("c", "year", models.PayloadSchemaType.INTEGER)
    assert isinstance(client, QdrantClient)
    client.close()


@pytest.mark.parametrize("url", ["http://203.0.113.7:6333", "https://db.example.org", "HTTP://localhost:1"])
def test_connecting_to_a_server_sends_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    running = set(threading.enumerate())
    client = connect(url)
    for started in set(threading.enumerate()) - running:  # qdrant-client would ask for the version of the server in one
        started.join()

    assert asked == []
    assert isinstance(client, QdrantClient)
    assert capsys.readouterr() == ("", "")
    client.close()


@pytest.mark.parametrize("key", ["s3cret", SecretStr("s3cret"), None, ""])
def test_the_api_key_goes_with_each_request(key: str | SecretStr | None) -> None:
    with SmallServer(lambda _: ok({"collections": []})).running() as server:
        client = connect(server.url, api_key=key)
        assert server.requests == []
        client.get_collections()
        client.close()

        [(_, path, headers)] = server.requests
        assert path == "/collections"
        assert headers.get("api-key") == ("s3cret" if key else None)


def test_grpc_is_used_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_PREFER_GRPC", "true")
    monkeypatch.setenv("CLIP_QDRANT_GRPC_PORT", "7334")
    monkeypatch.setenv("CLIP_QDRANT_LOCATION", "http://127.0.0.1:6333")
    for client, chosen in ((wiring.open_client(Settings.load(dotenv=None)), True), (connect("http://h:1"), False)):
        assert isinstance(client, QdrantClient)
        assert client.init_options["prefer_grpc"] is chosen
        assert client.init_options["grpc_port"] == (7334 if chosen else 6334)
        client.close()


def test_a_key_over_plain_http_to_another_host_is_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        connect("http://127.0.0.1:6333", api_key="k").close()
        connect("http://localhost:6333", api_key="k").close()
        connect("https://db.example.org", api_key="k").close()
        assert caplog.messages == []
        connect("http://db.example.org:6333", api_key="k").close()

    assert caplog.messages == ["the API key travels unencrypted to db.example.org; use https"]


def test_a_path_in_the_url_is_kept() -> None:
    with SmallServer(lambda _: ok({"collections": []})).running() as server:
        client = connect(f"{server.url}/qdrant")
        client.get_collections()
        client.close()

        assert server.requests[0][1] == "/qdrant/collections"


@pytest.mark.parametrize(
    ("location", "way_out"),
    [
        ("ftp://host/x", "http://…, https://…, a folder or :memory:"),
        ("file:///tmp/x", "a folder"),
        ("grpc://host:6334", "http://"),
        ("localhost:6333", "write http://localhost:6333"),
        ("http://", "has no host"),
        ("http://host:port", "is not a URL"),
        ("http://host:99999", "is not a URL"),
        ("", "is empty"),
        ("  ", "is empty"),
    ],
)
def test_a_location_that_is_none_of_the_three_is_refused(location: str, way_out: str) -> None:
    with pytest.raises(ConfigError, match=way_out):
        connect(location)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")

    with pytest.raises(ConfigError, match="is a file"):
        connect(tmp_path / "x")


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_must_be_positive(timeout: int) -> None:
    with pytest.raises(ConfigError, match=f"timeout is {timeout}"):
        connect(":memory:", timeout=timeout)


@pytest.mark.parametrize("url", ["ftp://me:se@cret@host", "http://me:se@cret@host:port", "http://me:se@cret@:6333"])
def test_a_password_in_a_url_is_not_repeated_in_the_error(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(url)
    assert "cret" not in str(caught.value)
    assert "://***@" in str(caught.value)
