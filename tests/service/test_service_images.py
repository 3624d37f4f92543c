"""/v1/images and /v1/thumbnails: files of stored images, and of nothing else."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes import FakeEmbedder, write_image
from PIL import Image
from qdrant_client import models
from running_service import run_app
from web import WebSite

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.service.app import create_app
from clip_qdrant.service.options import ServiceOptions
from clip_qdrant.service.state import Service
from clip_qdrant.service.stored_images import StoredImages
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.uris import point_id


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_image(folder / "red.png", "red", (600, 300))
    write_image(folder / "changed.png", "green")
    write_image(folder / "gone.png", "blue")
    return folder


@pytest.fixture(scope="module")
def images(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageCollection]:
    with EdgeClient(tmp_path_factory.mktemp("store")) as client:
        images = ImageCollection("images", FakeEmbedder(), client)
        images.add(sorted(folder.iterdir()))
        write_image(folder / "changed.png", "black")
        (folder / "gone.png").unlink()
        yield images


@pytest.fixture(scope="module")
def http(images: ImageCollection) -> Iterator[httpx.Client]:
    service = Service(images.client, images.embedder, ServiceOptions(allow_private=True))
    with run_app(create_app(service)) as url, httpx.Client(base_url=url, timeout=60) as http:
        yield http


def id_of(path: Path) -> str:
    return point_id(path.as_uri())


def plant(images: ImageCollection, uri: str, **image: Any) -> str:
    """A point that some other program wrote, or whose writer lied."""
    payload = {"uri": uri, "image": {"format": "JPEG", **image}}
    images.client.upsert("images", [models.PointStruct(id=point_id(uri), vector=[1.0] + [0.0] * 15, payload=payload)])
    return point_id(uri)


def test_an_image_comes_as_it_lies_with_a_tag(http: httpx.Client, folder: Path) -> None:
    content = (folder / "red.png").read_bytes()

    answer = http.get(f"/v1/images/{id_of(folder / 'red.png')}")

    assert answer.content == content
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert answer.headers["Cache-Control"].startswith("private")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("kind", ["images", "thumbnails"])
@pytest.mark.parametrize("told", ["{tag}", "W/{tag}", '"other", {tag}', "*"])
def test_what_the_caller_has_already_is_not_sent_again(http: httpx.Client, folder: Path, kind: str, told: str) -> None:
    path = f"/v1/{kind}/{id_of(folder / 'red.png')}"
    tag = http.get(path).headers["ETag"]

    same = http.get(path, headers={"If-None-Match": told.format(tag=tag)})
    other = http.get(path, headers={"If-None-Match": '"other"'})

    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    assert other.status_code == 200


@pytest.mark.parametrize(("size", "shape"), [(None, (480, 240)), (64, (64, 32)), (960, (600, 300))])
def test_a_thumbnail_has_the_size_that_is_asked_for(
    http: httpx.Client, folder: Path, size: int | None, shape: tuple[int, int]
) -> None:
    answer = http.get(f"/v1/thumbnails/{id_of(folder / 'red.png')}", params={"size": size} if size else {})

    assert answer.headers["Content-Type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("JPEG", shape)


def test_a_size_that_is_not_offered_is_refused(http: httpx.Client, folder: Path) -> None:
    assert http.get(f"/v1/thumbnails/{id_of(folder / 'red.png')}?size=100000").status_code == 422


@pytest.mark.parametrize("kind", ["images", "thumbnails"])
@pytest.mark.parametrize("name", ["changed.png", "gone.png"])
def test_a_file_that_is_not_what_was_stored_is_not_served(
    http: httpx.Client, folder: Path, kind: str, name: str
) -> None:
    answer = http.get(f"/v1/{kind}/{id_of(folder / name)}")

    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:clip-qdrant:NotServed"


@pytest.mark.parametrize("kind", ["images", "thumbnails"])
def test_a_point_that_names_a_file_it_was_not_made_of_gives_nobody_that_file(
    http: httpx.Client, images: ImageCollection, tmp_path: Path, kind: str
) -> None:
    secret = write_image(tmp_path / "secret.png", "white")
    told = set()
    for uri in (secret.as_uri(), (tmp_path / "none.png").as_uri(), "file:///etc/passwd", tmp_path.as_uri()):
        for image in ({"sha256": "0" * 64}, {"sha256": hashlib.sha256(b"").hexdigest() + "x"}, {}):
            name = plant(images, uri, **image)
            answer = http.get(f"/v1/{kind}/{name}")
            assert answer.status_code == 404
            assert "passwd" not in answer.text
            told.add((bool(image.get("sha256") == "0" * 64), answer.json()["detail"].replace(name, "ID")))

    assert len(told) == 2  # what is there and what is not look the same


def test_an_empty_file_is_no_image_even_if_its_hash_is_right(
    http: httpx.Client, images: ImageCollection, tmp_path: Path
) -> None:
    name = plant(images, (tmp_path / "none").as_uri(), sha256=hashlib.sha256(b"").hexdigest())

    assert http.get(f"/v1/images/{name}").status_code == 404


@pytest.mark.parametrize("uri", ["s3://bucket/a.png", "urn:sha256:00", "", "file:///photos/a.tar#b.png"])
def test_a_place_that_cannot_be_read_here_is_told(http: httpx.Client, images: ImageCollection, uri: str) -> None:
    answer = http.get(f"/v1/images/{plant(images, uri, sha256='0' * 64)}")

    assert answer.status_code == 404
    assert "only files and images of the web" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["6f1d5b0e-52b6-5e0c-9a3e-0d4f3f1c7a51", "../../etc/passwd", "%2e%2e%2fetc", "x"])
def test_what_is_no_stored_image_is_not_found(http: httpx.Client, name: str) -> None:
    assert http.get(f"/v1/images/{name}").status_code in (404, 422)


def test_an_image_of_the_web_is_fetched_and_compared(http: httpx.Client, images: ImageCollection, folder: Path) -> None:
    content = (folder / "red.png").read_bytes()
    with WebSite().running() as site:
        site.pages.update({"/red.png": content, "/new.png": b"new"})
        same = plant(images, f"{site.url}/red.png", sha256=hashlib.sha256(content).hexdigest())
        other = plant(images, f"{site.url}/new.png", sha256=hashlib.sha256(content).hexdigest())

        assert http.get(f"/v1/images/{same}").content == content
        assert http.get(f"/v1/images/{other}").status_code == 404


def test_thumbnails_are_made_once_and_the_oldest_goes(folder: Path, images: ImageCollection) -> None:
    hit = images.get(folder / "red.png")
    assert hit is not None

    class Reads(StoredImages):
        count = 0

        def read(self, hit: Any) -> bytes:
            Reads.count += 1
            return super().read(hit)

    first = Reads(None, limits=ServiceOptions().limits, cache_bytes=1 << 20)  # type: ignore[arg-type]
    assert first.make_thumbnail(hit, side=64) == first.make_thumbnail(hit, side=64)
    assert Reads.count == 1
    size = len(first.make_thumbnail(hit, side=128))

    small = Reads(None, limits=ServiceOptions().limits, cache_bytes=size)  # type: ignore[arg-type]
    Reads.count = 0
    for side in (128, 128, 64, 128):
        small.make_thumbnail(hit, side=side)
    assert Reads.count == 3
