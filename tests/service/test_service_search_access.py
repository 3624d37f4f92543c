"""Who may search, count, label and ingest; a tenant finds its own images alone, however it asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import FakeEmbedder, write_image
from running_service import run_app
from served_photos import NAME, add_photos, uri_of

from clip_qdrant import Query, errors
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.search.options import SearchOptions
from clip_qdrant.service import Client
from clip_qdrant.service.app import create_app
from clip_qdrant.service.ingest.rules import IngestRules
from clip_qdrant.service.keys.key import ApiKey, KeyScope, Tenant
from clip_qdrant.service.keys.ring import KeyRing
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.store.connect import connect

KEYS = {name: name * 20 for name in ("reader", "writer", "tenant", "other")}
LABELS = {"red": "red", "blue": "blue"}
LABEL = {"labels": LABELS, "write": "metadata.label"}
READS: dict[str, Any] = {
    "/v1/search": {"query": "red"},
    "/v1/search/batch": {"queries": ["red"]},
    "/v1/recommend": {"positive": ["red"]},
    "/v1/discover": {"target": "red", "context": [{"near": "red", "far": "blue"}]},
    "/v1/count": {},
    "/v1/facets": {"fields": {"year": []}},
    "/v1/histogram": {"field": "stars"},
    "/v1/classify": {"labels": LABELS},
    "/v1/classify/images": {"labels": LABELS, "images": [{"id": uri_of("red")}]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    write_image(folder / "red.png", "red")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Service]:
    def make_key(*scopes: KeyScope, **more: Any) -> ApiKey:
        return ApiKey(name="-".join(scopes), scopes=frozenset(scopes), **more)

    keys = KeyRing(
        {
            KEYS["reader"]: make_key("read"),
            KEYS["writer"]: make_key("read", "write"),
            KEYS["tenant"]: make_key("read", "write", tenant=Tenant("album", "pets")),
            KEYS["other"]: make_key("read", "write", collections=frozenset({"others"})),
        }
    )
    options = ServiceOptions(collection=NAME, ingest=IngestRules(places=(str(folder),)))
    client = connect(str(tmp_path_factory.mktemp("store")))
    yield Service(client, FakeEmbedder(), options, keys=keys)
    client.close()


@pytest.fixture(scope="module")
def photos(service: Service) -> ImageCollection:
    return add_photos(service.client, service.embedder)


@pytest.fixture(scope="module")
def url(service: Service, photos: ImageCollection) -> Iterator[str]:
    with run_app(create_app(service)) as url:
        yield url


def make_client(url: str, name: str) -> Client:
    return Client(url, api_key=KEYS[name], patience=0)


def ask(url: str, name: str, path: str, body: Any) -> httpx.Response:
    return httpx.post(url + path, json=body, headers={"Authorization": f"Bearer {KEYS[name]}"}, timeout=60)


@pytest.mark.parametrize("path", READS)
def test_reading_takes_a_key_for_the_collection(url: str, path: str) -> None:
    assert httpx.post(url + path, json=READS[path], timeout=60).status_code == 401
    assert ask(url, "reader", path, READS[path]).status_code == 200
    assert ask(url, "other", path, READS[path]).status_code == 403


def test_no_key_is_an_error_of_its_own(url: str) -> None:
    with Client(url, patience=0) as client, pytest.raises(errors.Unauthorized):
        client.search("red")
    with make_client(url, "other") as client, pytest.raises(errors.Forbidden, match=NAME):
        client.search("red")


def test_writing_takes_the_scope(url: str, folder: Path) -> None:
    assert ask(url, "reader", "/v1/classify", LABEL).status_code == 403
    assert ask(url, "reader", "/v1/ingest", {"source": str(folder)}).status_code == 403
    assert ask(url, "writer", "/v1/classify", {**LABEL, "where": "year = 2020"}).status_code == 200


def test_runs_are_seen_by_those_who_may_write_to_their_collection(url: str, folder: Path) -> None:
    with make_client(url, "writer") as client:
        run = client.ingest(str(folder))

    for name, status in (("writer", 200), ("reader", 403), ("other", 404), ("tenant", 403)):
        headers = {"Authorization": f"Bearer {KEYS[name]}"}
        assert httpx.get(f"{url}/v1/ingest/{run.id}", headers=headers, timeout=60).status_code == status, name
        assert httpx.get(f"{url}/v1/ingest/{run.id}/events", headers=headers, timeout=60).status_code == status, name
    told = httpx.get(f"{url}/v1/ingest", headers={"Authorization": f"Bearer {KEYS['other']}"}, timeout=60).json()
    assert told == {"runs": []}
    with make_client(url, "tenant") as client, pytest.raises(errors.Forbidden, match="tenant"):
        client.start_ingest(str(folder))


def test_a_tenant_finds_its_own_images_alone(url: str, photos: ImageCollection) -> None:
    own = {hit.uri for hit in photos.search(None, where="album = 'pets'", limit=50)}
    everything = SearchOptions(limit=50)

    with make_client(url, "tenant") as client:
        found = [
            client.search("red", limit=50),
            client.search(None, limit=50),
            client.search(None, order_by="year", limit=50),
            client.search("red", text=True, limit=50),
            client.search("red", group_by="year", limit=50),
            client.search("red", diversity=0.5, limit=50),
            *client.search_batch(["red", "blue"], options=everything),
            client.recommend(["red"], strategy="best", options=everything),
            client.discover("red", [("red", "blue")], options=everything),
        ]
        for hits in found:
            assert {hit.uri for hit in hits} <= own
            assert hits
        assert len(client) == len(own)
        albums = client.facet("album")
        assert [each.value for each in albums] == ["pets"]
        assert sum(each.count for each in client.histogram("stars")) == len(own)
        assert sum(client.classify(LABELS).counts.values()) == len(own)
        assert client.search("red", where="album = 'sea'").reason == "the filter selects no image"
        with pytest.raises(errors.QueryError, match="no stored image"):
            client.search(Query.id(uri_of("green")))
        with pytest.raises(errors.QueryError, match="no stored image"):
            client.classify_images([Query.id(uri_of("green"))], LABELS)


def test_a_tenant_labels_its_own_images_alone(url: str, photos: ImageCollection) -> None:
    with make_client(url, "tenant") as client:
        found = client.classify(LABELS, write="animal")

    assert photos.count("animal exists") == sum(found.counts.values()) == photos.count("album = 'pets'")
