"""/v1/points: stored, read, changed and deleted, as far as the key may, and noted in the audit log."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import FakeEmbedder, solid_image
from running_service import run_app
from web import WebSite

from clip_qdrant.service.app import create_app
from clip_qdrant.service.audit import AuditLog
from clip_qdrant.service.keys.key import ApiKey, Tenant
from clip_qdrant.service.keys.ring import KeyRing
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.uris import point_id

WRITER, READER, ACME, OTHER, STRICT = ("w" * 20, "r" * 20, "a" * 20, "o" * 20, "s" * 20)


def png(colour: str, size: tuple[int, int] = (24, 16)) -> bytes:
    file = io.BytesIO()
    solid_image(colour, size).save(file, "PNG")
    return file.getvalue()


def inline(colour: str) -> str:
    return base64.b64encode(png(colour)).decode()


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.jsonl"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, audit: Path) -> Iterator[httpx.Client]:
    both = frozenset({"read", "write"})
    keys = KeyRing(
        {
            WRITER: ApiKey(name="writer", scopes=both),  # type: ignore[arg-type]  # of frozenset
            READER: ApiKey(name="reader", scopes=frozenset({"read"})),
            ACME: ApiKey(name="acme", scopes=both, tenant=Tenant("customer", "acme")),  # type: ignore[arg-type]
            OTHER: ApiKey(name="other", scopes=both, tenant=Tenant("customer", "other")),  # type: ignore[arg-type]
        }
    )
    options = ServiceOptions(
        allow_private=True, max_batch=4, max_body_bytes=200_000, max_query_length=60, limits=limits()
    )
    with EdgeClient(tmp_path_factory.mktemp("store")) as client:
        service = Service(client, FakeEmbedder(), options, keys=keys, audit=AuditLog(audit))
        with (
            run_app(create_app(service)) as url,
            httpx.Client(base_url=url, headers={"api-key": WRITER}, timeout=60) as http,
        ):
            yield http


def limits() -> Any:
    from clip_qdrant.images.load import Limits

    return Limits(max_bytes=100_000, max_pixels=10_000)


def add(http: httpx.Client, *points: dict[str, Any], key: str = WRITER, **body: Any) -> httpx.Response:
    return http.post("/v1/points", json={"points": points, **body}, headers={"api-key": key})


def test_an_image_is_stored_read_changed_and_deleted(http: httpx.Client, audit: Path) -> None:
    point = {"image": inline("red"), "uri": "urn:shop:1", "caption": "a shoe", "metadata": {"year": 2024}}
    told = len(audit.read_text().splitlines()) if audit.exists() else 0

    added = add(http, point)
    again = add(http, point)
    name = added.json()["points"][0]["id"]
    read = http.get(f"/v1/points/{name}")
    changed = http.post("/v1/points/metadata", json={"changes": {"year": 2025}, "where": "year = 2024"})
    found = http.post("/v1/search", json={"query": "red", "where": "year = 2025"})
    deleted = http.delete(f"/v1/points/{name}")

    assert added.json() == {"added": 1, "updated": 0, "unchanged": 0, "points": [{"id": name, "uri": "urn:shop:1"}]}
    assert name == point_id("urn:shop:1")
    assert again.json()["unchanged"] == 1
    assert (read.json()["caption"], read.json()["metadata"]) == ("a shoe", {"year": 2024})
    assert changed.json() == {"changed": 1}
    assert [hit["id"] for hit in found.json()["hits"]] == [name]
    assert deleted.json() == {"deleted": 1}
    assert http.get(f"/v1/points/{name}").status_code == 404
    assert http.delete(f"/v1/points/{name}").status_code == 404
    lines = [json.loads(line) for line in audit.read_text().splitlines()[told:]]
    assert [line["action"] for line in lines] == ["add points", "add points", "change points", "delete points"]
    assert lines[0]["uris"] == ["urn:shop:1"]
    assert (lines[2]["where"], lines[2]["changed"], lines[2]["key"]) == ("year = 2024", 1, "writer")


def test_files_of_a_form_are_stored_by_their_hash_or_as_they_are_named(http: httpx.Client) -> None:
    files = [("image", ("a.png", png("red"))), ("image", ("b.png", png("blue")))]
    request = {"points": [{"upload": 1, "uri": "urn:form:b", "metadata": {"year": 1999}}]}

    answer = http.post("/v1/points", files=files, data={"request": json.dumps(request)})

    assert answer.status_code == 200, answer.text
    named, plain = answer.json()["points"]
    assert named["uri"] == "urn:form:b"
    assert plain["uri"] == f"urn:sha256:{hashlib.sha256(png('red')).hexdigest()}"
    assert http.get(f"/v1/points/{named['id']}").json()["metadata"] == {"year": 1999}


def test_an_image_of_the_web_is_fetched_and_shown(http: httpx.Client) -> None:
    with WebSite().running() as site:
        site.pages["/cat.png?token=secret-token"] = png("green")
        answer = add(http, {"uri": f"{site.url}/cat.png?token=secret-token"})

        assert answer.status_code == 200, answer.text
        assert "secret-token" not in answer.text
        point = answer.json()["points"][0]
        assert http.get(f"/v1/points/{point['id']}").json()["uri"] == point["uri"]


@pytest.mark.parametrize(
    ("point", "status", "told"),
    [
        ({"uri": "file:///etc/passwd"}, 400, "nothing is fetched from"),
        ({"uri": "/etc/passwd"}, 400, "nothing is fetched from"),
        ({"uri": "s3://bucket/a.png"}, 400, "nothing is fetched from"),
        ({"uri": "file:///etc/passwd", "image": inline("red")}, 403, "would name a file of the service"),
        ({"uri": "FILE:/etc/passwd", "image": inline("red")}, 403, "would name a file of the service"),
        ({"uri": "etc/passwd", "image": inline("red")}, 403, "would name a file of the service"),
        ({"image": "bm8gaW1hZ2U="}, 422, "NotAnImage"),
        ({"image": "***"}, 422, "NotAnImage"),
        ({"image": base64.b64encode(png("red", (200, 100))).decode()}, 413, "ImageTooLarge"),
        ({"image": inline("red"), "metadata": {"year": [1, "a"]}}, 422, "MetadataError"),
        ({"upload": 0}, 400, "there is no upload 0"),
        ({}, 422, "name the image by uri"),
        ({"image": inline("red"), "colour": "red"}, 422, "colour"),
    ],
)
def test_what_cannot_be_stored_is_refused_whole(
    http: httpx.Client, point: dict[str, Any], status: int, told: str
) -> None:
    answer = add(http, {"image": inline("white"), "uri": "urn:whole"}, point)

    assert answer.status_code == status, answer.text
    assert told in answer.text
    assert "root:" not in answer.text
    assert http.get(f"/v1/points/{point_id('urn:whole')}").status_code == 404


def test_what_is_more_than_one_request_may_have_is_refused(http: httpx.Client) -> None:
    many = add(http, *({"image": inline("red"), "uri": f"urn:m:{n}"} for n in range(5)))
    large = http.post("/v1/points", content=b"x" * 200_001, headers={"Content-Type": "application/json"})
    endless = http.post("/v1/points", content=(b" " * 10_000 for _ in range(21)), headers={"X-Request-ID": "e"})
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    form_type = {"Content-Type": "multipart/form-data; boundary=b"}
    form = http.post("/v1/points", content=(head + b"x" * 10_000 for _ in range(21)), headers=form_type)
    where = http.post("/v1/points/delete", json={"where": "year = 1 or " * 6 + "year = 2"})

    for answer in (many, large, endless, form, where):
        assert answer.status_code == 413, answer.text
        assert answer.json()["type"] == "urn:clip-qdrant:RequestTooLarge"
    assert endless.json()["request_id"] == "e"


def test_a_body_that_announces_too_much_is_not_waited_for(http: httpx.Client) -> None:
    connection = HTTPConnection(str(http.base_url).removeprefix("http://").rstrip("/"), timeout=60)
    connection.putrequest("POST", "/v1/points")
    connection.putheader("Content-Length", "200001")
    connection.endheaders()

    with contextlib.closing(connection):
        assert connection.getresponse().status == 413


def test_images_are_deleted_by_name_or_filter_and_never_by_nothing(http: httpx.Client) -> None:
    add(http, *({"image": inline("red"), "uri": f"urn:d:{n}", "metadata": {"year": n}} for n in range(4)))

    assert http.post("/v1/points/delete", json={}).status_code == 400
    assert http.post("/v1/points/delete", json={"ids": []}).status_code == 422
    assert http.post("/v1/points/delete", json={"where": ""}).status_code == 400
    assert http.post("/v1/points/delete", json={"ids": ["urn:d:0", point_id("urn:d:1")]}).json() == {"deleted": 2}
    assert http.post("/v1/points/delete", json={"ids": ["urn:d:2"], "where": "year = 3"}).json() == {"deleted": 0}
    assert http.post("/v1/points/delete", json={"where": "year >= 2 and year < 4"}).json() == {"deleted": 2}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/points", {"points": [{"image": inline("red")}]}),
        ("POST", "/v1/points/delete", {"where": "year > 0"}),
        ("POST", "/v1/points/metadata", {"changes": {"year": 1}, "where": ""}),
        ("DELETE", f"/v1/points/{point_id('urn:x')}", None),
    ],
)
def test_a_key_that_reads_changes_nothing(http: httpx.Client, audit: Path, method: str, path: str, body: Any) -> None:
    audit.touch()  # this test may be the first of its process
    before = audit.read_text()

    answer = http.request(method, path, json=body, headers={"api-key": READER})

    assert answer.status_code == 403
    assert audit.read_text() == before


def test_tenants_have_their_own_images(http: httpx.Client, audit: Path) -> None:
    point = {"image": inline("cyan"), "metadata": {"year": 2030}}
    mine, theirs = (add(http, point, key=key).json()["points"][0] for key in (ACME, OTHER))

    assert mine["id"] != theirs["id"]
    assert http.get(f"/v1/points/{mine['id']}", headers={"api-key": ACME}).json()["metadata"]["customer"] == "acme"
    for path in (f"/v1/points/{mine['id']}", f"/v1/images/{mine['id']}", f"/v1/thumbnails/{mine['id']}"):
        assert http.get(path, headers={"api-key": OTHER}).status_code == 404
    assert http.delete(f"/v1/points/{mine['id']}", headers={"api-key": OTHER}).status_code == 404
    search = {"query": "cyan", "where": "customer = 'acme' or year = 2030", "limit": 50}
    found = http.post("/v1/search", json=search, headers={"api-key": OTHER}).json()["hits"]
    assert [hit["id"] for hit in found] == [theirs["id"]]
    facets = http.post("/v1/facets", json={"fields": {"customer": []}}, headers={"api-key": OTHER}).json()
    assert [value["value"] for value in facets["facets"]["customer"]["values"]] == ["other"]
    assert add(http, point, key=ACME).json()["unchanged"] == 1
    assert json.loads(audit.read_text().splitlines()[-1])["tenant"] == "acme"


@pytest.mark.parametrize("name", ["customer", "metadata.customer"])
def test_a_tenant_writes_nothing_of_anothers(http: httpx.Client, name: str) -> None:
    added = add(http, {"image": inline("red"), "uri": "urn:t", "metadata": {name: "other"}}, key=ACME)
    body = {"changes": {name: "other"}, "where": ""}
    changed = http.post("/v1/points/metadata", json=body, headers={"api-key": ACME})
    add(http, {"image": inline("red"), "uri": "urn:of-other"}, key=OTHER)
    taken = add(http, {"image": inline("blue"), "uri": "urn:of-other"}, key=ACME)

    assert (added.status_code, changed.status_code, taken.status_code) == (403, 403, 403)
    assert "give it another uri" in taken.json()["detail"]


def test_an_address_that_is_not_public_is_refused(tmp_path: Path) -> None:
    with EdgeClient(tmp_path) as client, WebSite().running() as site:
        site.pages["/a.png"] = png("red")
        with run_app(create_app(Service(client, FakeEmbedder()))) as url:
            answer = httpx.post(f"{url}/v1/points", json={"points": [{"uri": f"{site.url}/a.png"}]}, timeout=60)

        assert answer.status_code == 422
        assert "no public address" in answer.json()["detail"]
        assert site.requests == []
