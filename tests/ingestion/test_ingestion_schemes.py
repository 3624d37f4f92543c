"""Locations mean what they say: schemes in any case, and every "/" of a key."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import write_image
from s3 import new_bucket

from clip_qdrant.errors import ConfigError, MetadataError
from clip_qdrant.images.load import Limits
from clip_qdrant.uris import path_of, to_uri
from clip_qdrant_ingestion.sources.open import kind_of_source, open_source
from clip_qdrant_ingestion.sources.tables.addresses import name_within, resolve_address


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("S3://shop/photos", "bucket"),
        ("HTTPS://host.example/photos/", "index"),
        ("Http://host.example/t.csv", "manifest"),
        ("GS://set/a.tar", "shards"),
        ("s3a://shop/photos", "bucket"),
    ],
)
def test_a_scheme_tells_the_kind_in_any_case(location: str, kind: str) -> None:
    assert kind_of_source(location) == kind


def test_upper_and_lower_case_are_one_in_a_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_image(tmp_path / "a b.png", "red")
    assert to_uri("File:///a%20B.png") == "file:///a%20B.png"
    for location in (f"FILE://{tmp_path}", f"File:{tmp_path}"):
        [page] = open_source(location).pages()
        assert [item.uri for item in page.objects] == [to_uri(image)]
    assert resolve_address("HTTPS://Host.example/A.jpg", "s3://b/t.csv") == "https://Host.example/A.jpg"
    bucket = new_bucket(monkeypatch)
    bucket.put("in/a.png", image.read_bytes())
    [page] = open_source(f"S3{bucket.url.removeprefix('s3')}/in").pages()
    assert [item.uri for item in page.objects] == [f"{bucket.url}/in/a.png"]


def test_every_slash_of_a_prefix_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_image(tmp_path / "a.png", "red").read_bytes()
    bucket = new_bucket(monkeypatch)
    for key in ("/in/a.png", "in/b.png", "in//c.png"):
        bucket.put(key, image)
    bucket.put("/in/t.csv", "file\na.png\n")
    for prefix, names in (("//in", ["/in/a.png"]), ("//in/", ["/in/a.png"]), ("/in//", ["in//c.png"])):
        source = open_source(bucket.url + prefix)
        objects = [item for page in source.pages() for item in page.objects]
        assert [item.uri for item in objects] == [f"{bucket.url}/{name}" for name in names]
        assert source.read(objects[0], limits=Limits()) == image
    found = {item.uri for page in open_source(bucket.url).pages() for item in page.objects}
    assert found == {f"{bucket.url}/{key}" for key in ("/in/a.png", "in/b.png", "in//c.png")}
    table = open_source(f"{bucket.url}//in/t.csv")
    [page] = table.pages()
    assert [item.uri for item in page.objects] == [f"{bucket.url}//in/a.png"]
    assert table.read(page.objects[0], limits=Limits()) == image


@pytest.mark.parametrize("address", ["https://[", "http://[::1/a.jpg", "//[x", "file://[/a.jpg", "HTTPS://]/"])
@pytest.mark.parametrize("base", ["https://x.example/t.csv", "file:///data/t.csv", "s3://b/t.csv"])
def test_an_address_that_cannot_be_read_is_a_problem_of_its_row(address: str, base: str) -> None:
    try:
        uri = resolve_address(address, base)
    except MetadataError:
        return
    assert name_within(uri, base) is not None


def test_a_location_that_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match="is no address"):
        open_source("https://[/photos/", kind="index")


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a%20b", "/a b"),
        ("FILE:/a", "/a"),
        ("file://host/a?x#y", "/a"),
        ("file://[/a", "/a"),
        ("s3://a/b", None),
        ("/a", None),
    ],
)
def test_the_path_of_a_uri(uri: str, path: str | None) -> None:
    assert path_of(uri) == (None if path is None else Path(path))
