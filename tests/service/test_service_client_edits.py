"""The client adds, reads, changes and deletes images as the collection itself does, and drops collections."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from fakes import solid_image, write_image
from PIL import Image
from served_photos import png
from web import WebSite

from clip_qdrant import AddResult, errors
from clip_qdrant.fields.types import Location
from clip_qdrant.service import Client
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service


@pytest.fixture(scope="module")
def options() -> ServiceOptions:
    return ServiceOptions(allow_private=True, max_batch=8)


@pytest.fixture
def client(url: str, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a collection that is not there yet, one for a test."""
    with Client(url, collection=request.node.name, patience=0) as client:
        yield client


def test_images_are_added_with_what_goes_with_them(client: Client, service: Service, tmp_path: Path) -> None:
    path = write_image(tmp_path / "green.png", "green")
    told: list[int] = []
    taken_at, place = datetime(2024, 5, 1, 12), Location(48.1, 11.6)

    done = client.add(
        [png("red"), path, solid_image("blue"), np.asarray(solid_image("cyan"))],
        uris=["urn:shop:1", None, "urn:shop:3", "urn:shop:4"],
        captions=["a red one", None, "", None],
        metadata=[{"year": np.int64(2024), "taken_at": taken_at, "location": place}, {"tags": ("a", "b")}, None, {}],
        batch_size=3,
        progress=told.append,
    )

    images = service.collections.open(client.name or "")
    assert (done, told, len(client)) == (AddResult(added=4), [3, 1], 4)
    red = images.get("urn:shop:1")
    assert red is not None
    assert client.get("urn:shop:1") == client.get(red.id) == red
    assert (red.caption, red.metadata, red.taken_at, red.location) == ("a red one", {"year": 2024}, taken_at, place)
    assert [hit.metadata for hit in client.search(path, limit=1)] == [{"tags": ["a", "b"]}]
    assert client.add([png("red")], uris=["urn:shop:1"]) == AddResult(unchanged=1)
    assert client.get("urn:shop:2") is None


def test_an_image_of_the_web_is_added_by_its_address_and_read_again(client: Client) -> None:
    site = WebSite()
    site.pages["/red.png"] = png("red", (64, 32))
    address = f"{site.url}/red.png"
    with site.running():
        assert client.add([address], captions=["red"]) == AddResult(added=1)
        [hit] = client.search("red")

        assert client.read_image(hit) == client.read_image(address) == png("red", (64, 32))
        small = Image.open(io.BytesIO(client.read_thumbnail(hit, size=16)))
        assert (small.format, small.size) == ("JPEG", (16, 8))
        with pytest.raises(errors.ConfigError, match="has no other uri"):
            client.add([address], uris=["urn:other"])
    with pytest.raises(errors.PointNotFound):
        client.read_image("urn:none")


def test_images_are_changed_and_deleted(client: Client) -> None:
    client.add([png("red"), png("blue"), png("green")], uris=["urn:a", "urn:b", "urn:c"], metadata=[{"n": 1}, {}, {}])

    assert client.update_metadata({"n": 2, "caption": "new"}, uris=["urn:a", "urn:b"]) == 2
    assert client.update_metadata({"n": None}, where="n = 2") == 2
    assert client.update_metadata({"n": 3}, where="") == 3
    assert client.count("caption ~ 'new'") == 2
    assert client.update_metadata({"n": 4}, uris=[]) == client.delete(uris=[]) == 0
    assert client.delete(uris=["urn:a", "urn:none"]) == 1
    assert client.delete(where="caption ~ 'new'") == 1
    assert [hit.uri for hit in client.search(None)] == ["urn:c"]


def test_a_collection_is_described_and_dropped(client: Client) -> None:
    name = client.name
    assert not client.exists()
    with pytest.raises(errors.CollectionNotFound):
        client.search("red")

    client.add([png("red")], metadata=[{"year": 2024}])

    assert client.exists()
    assert name in client.list_collections()
    told = client.describe()
    assert (told["name"], told["images"], told["fields"]["metadata.year"]) == (name, 1, "integer")
    client.drop()
    client.drop()
    assert not client.exists()


def test_what_makes_no_images_is_refused(client: Client) -> None:
    for wrong in (
        {"images": png("red")},
        {"images": [png("red")], "uris": []},
        {"images": [png("red")], "captions": ["a", "b"]},
        {"images": [png("red")], "batch_size": 0},
    ):
        with pytest.raises(errors.ConfigError):
            client.add(**wrong)  # type: ignore[arg-type]
    with pytest.raises(errors.MetadataError, match="cannot hold"):
        client.add([png("red")], metadata=[{"a": object()}])
    with pytest.raises(errors.NotAnImage):
        client.add([b"text"])
    with pytest.raises(errors.QueryError, match="needs uris or where"):
        client.delete()
    with pytest.raises(errors.QueryError, match="needs uris or where"):
        client.update_metadata({"a": 1})
    assert not client.exists()
