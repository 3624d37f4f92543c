"""/v1/collections: listed, described, created and dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fakes import FakeEmbedder, solid_image
from running_service import run_app

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.service.app import create_app
from clip_qdrant.service.audit import AuditLog
from clip_qdrant.service.keys.key import ApiKey
from clip_qdrant.service.keys.ring import KeyRing
from clip_qdrant.service.state import Service
from clip_qdrant.store.edge.client import EdgeClient

ADMIN, LIMITED = "a" * 20, "l" * 20


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeClient]:
    with EdgeClient(tmp_path_factory.mktemp("store")) as client:
        yield client


@pytest.fixture(scope="module")
def http(client: EdgeClient, audit: Path) -> Iterator[httpx.Client]:
    keys = KeyRing(
        {
            ADMIN: ApiKey(name="root", scopes=frozenset({"read", "write", "admin"})),
            LIMITED: ApiKey(name="shop", scopes=frozenset({"read", "write"}), collections=frozenset({"photos"})),
        }
    )
    images = ImageCollection("photos", FakeEmbedder(), client)
    images.add([solid_image("red")], uris=["urn:x:red"], metadata=[{"year": 2020}])
    ImageCollection("others", FakeEmbedder(), client).add([solid_image("blue")])
    ImageCollection("foreign", FakeEmbedder(name="another"), client).add([solid_image("blue")])
    service = Service(client, FakeEmbedder(), keys=keys, audit=AuditLog(audit))
    with (
        run_app(create_app(service)) as url,
        httpx.Client(base_url=url, headers={"api-key": ADMIN}, timeout=60) as http,
    ):
        yield http


def test_the_list_has_what_the_key_may_use(http: httpx.Client) -> None:
    assert http.get("/v1/collections").json() == {"collections": ["foreign", "others", "photos"], "default": "images"}
    limited = http.get("/v1/collections", headers={"api-key": LIMITED})
    assert limited.json()["collections"] == ["photos"]


def test_a_collection_tells_its_fields_and_its_model(http: httpx.Client) -> None:
    told = http.get("/v1/collections/photos").json()

    assert (told["name"], told["images"], told["dim"]) == ("photos", 1, 16)
    assert told["fingerprint"] == FakeEmbedder().fingerprint
    assert told["fields"]["metadata.year"] == "integer"
    assert told["counts_exactly"] is True


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("none", 404, "CollectionNotFound"),
        ("foreign", 409, "FingerprintMismatch"),
        ("..%5C..%5Cetc", 400, "QueryError"),
        ("%2e%2e", 400, "QueryError"),
        ("a%3Fb", 400, "QueryError"),
        ("a%00b", 400, "QueryError"),
    ],
)
def test_what_is_no_collection_of_this_service_is_told(
    http: httpx.Client, name: str, status: int, kind: str | None
) -> None:
    answer = http.get(f"/v1/collections/{name}")

    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:clip-qdrant:{kind}"


def test_a_collection_is_created_with_its_fields_and_dropped(http: httpx.Client, audit: Path) -> None:
    body = {"fields": {"year": "integer", "tags": "keyword"}}
    told = len(audit.read_text().splitlines()) if audit.exists() else 0

    created = http.put("/v1/collections/new", json=body, headers={"X-Request-ID": "r-1"})
    again = http.put("/v1/collections/new", json=body)
    other = http.put("/v1/collections/new", json={"fields": {"year": "keyword"}})
    dropped = http.delete("/v1/collections/new")

    assert (created.status_code, again.status_code, other.status_code) == (201, 200, 400)
    assert created.json()["fields"]["metadata.tags"] == "keyword"
    assert dropped.json() == {"images": 0}
    assert http.get("/v1/collections/new").status_code == 404
    lines = [json.loads(line) for line in audit.read_text().splitlines()[told:]]
    assert [line["action"] for line in lines] == ["create collection"] * 2 + ["drop collection"]
    first = lines[0]
    assert (first["key"], first["collection"], first["request_id"]) == ("root", "new", "r-1")
    assert first["address"] == "127.0.0.1"
    assert ADMIN not in audit.read_text()
    assert audit.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_only_admin_makes_and_drops(http: httpx.Client, method: str) -> None:
    answer = http.request(method, "/v1/collections/photos", headers={"api-key": LIMITED})

    assert answer.status_code == 403
    assert http.get("/v1/collections/photos").json()["images"] == 1


def test_what_another_program_drops_is_not_there(http: httpx.Client, client: EdgeClient) -> None:
    for method in ("GET", "DELETE"):
        assert http.put("/v1/collections/brief").status_code == 201
        assert http.get("/v1/collections/brief").status_code == 200
        client.delete_collection("brief")

        assert http.request(method, "/v1/collections/brief").status_code == 404
