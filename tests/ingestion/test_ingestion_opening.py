"""Which source a location names, and with which options it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes import write_image
from s3 import new_bucket

from clip_qdrant.errors import ConfigError, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.uris import to_uri
from clip_qdrant_ingestion.sources.archives.archive import ShardSource
from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
from clip_qdrant_ingestion.sources.open import kind_of_source, open_source
from clip_qdrant_ingestion.sources.protocol import Source
from clip_qdrant_ingestion.sources.share import Share
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource
from clip_qdrant_ingestion.sources.tree.folder import FolderSource
from clip_qdrant_ingestion.sources.web.http_index import HttpIndexSource


def names(source: Source) -> list[str]:
    return [item.name for page in source.pages() for item in page.objects]


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("photos", "folder"),
        ("photos/2024/", "folder"),
        ("file:///photos", "folder"),
        ("products.csv", "manifest"),
        ("products.TSV.gz", "manifest"),
        ("s3://shop/products.parquet", "manifest"),
        ("https://shop.example/products.jsonl?sig=1", "manifest"),
        ("shard.tar", "shards"),
        ("data/shard-{000..010}.tar.gz", "shards"),
        ("s3://shop/*.tar", "shards"),
        ("https://shop.example/a.tgz?sig=1", "shards"),
        ("s3://shop", "bucket"),
        ("S3://shop/prefix", "bucket"),
        ("gs://shop/prefix/", "bucket"),
        ("hf://datasets/org/name", "bucket"),
        ("https://shop.example/photos/", "index"),
        ("http://shop.example", "index"),
    ],
)
def test_a_location_tells_its_kind(location: str, kind: str) -> None:
    assert kind_of_source(location) == kind


def test_a_folder_with_the_name_of_a_table_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "old.csv").mkdir()
    assert kind_of_source(str(tmp_path / "old.csv")) == "folder"
    assert kind_of_source(to_uri(tmp_path / "old.csv")) == "folder"


@pytest.mark.parametrize("name", ["photos.zip", "a.jpg", "table.xlsx"])
def test_what_is_unclear_names_the_choices(name: str) -> None:
    with pytest.raises(ConfigError, match=r"a folder, a bucket .* a manifest .* tar archives .* a web page"):
        open_source(name)


@pytest.mark.parametrize(
    ("location", "kind", "made"),
    [
        ("photos", None, FolderSource),
        ("file:///photos", None, FolderSource),
        ("products.csv", None, ManifestSource),
        ("shard.tar", None, ShardSource),
        ("photos", "shards", ShardSource),
        ("memory://photos", None, BucketSource),
        ("http://shop.example/a.csv", "index", HttpIndexSource),
    ],
)
def test_a_kind_makes_its_source(location: str, kind: Any, made: type) -> None:
    assert isinstance(open_source(location, kind=kind), made)


def test_an_option_that_the_source_does_not_have_is_refused() -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("products.csv", {"include": ["*.jpg"]}),
        ("shard.tar", {"exclude": ["*.jpg"]}),
        ("products.csv", {"hidden": True}),
        ("shard.tar", {"follow_symlinks": False}),
        ("photos", {"uri_column": "x"}),
        ("photos", {"base": "x"}),
    ]
    for location, options in wrong:
        with pytest.raises(ConfigError, match=f"there is no {next(iter(options))}"):
            open_source(location, **options)
    with pytest.raises(ConfigError, match="use one of folder, bucket"):
        open_source("photos", kind="zip")  # type: ignore[arg-type]  # as from a command line
    with pytest.raises(ConfigError, match="path pattern"):
        open_source("photos", path_pattern="*")
    with pytest.raises(ConfigError, match="there is no part"):
        open_source("photos", part="3/3")


def test_a_folder_that_is_not_there_says_so_when_it_is_listed(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        list(open_source(tmp_path / "gone").pages())


def test_pattern_part_and_selection_work_together(tmp_path: Path) -> None:
    for number in range(20):
        write_image(tmp_path / "shoes" / f"{number}.png", "red")
    write_image(tmp_path / "shoes" / "old.png", "red")
    options: dict[str, Any] = {"exclude": ["old*"], "path_pattern": "{category}/*", "name": "shop"}
    whole = open_source(tmp_path, **options)
    parts = [open_source(tmp_path, part=f"{index}/2", **options) for index in range(2)]
    assert sorted(names(whole)) == sorted(names(parts[0]) + names(parts[1]))
    assert len(names(whole)) == 20
    assert all(isinstance(part, Share) for part in parts)
    assert [source.name for source in (whole, *parts)] == ["shop"] * 3
    (page,) = whole.pages()
    assert page.objects[0].said.texts == {"category": "shoes"}


def test_the_endpoint_reaches_everything_that_lies_in_buckets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bucket = new_bucket(monkeypatch)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    bucket.put("a.jpg", b"image")
    bucket.put("t.csv", "uri\na.jpg\n")
    table = tmp_path / "t.csv"
    table.write_text(f"uri\n{bucket.url}/a.jpg\n")
    for location in (bucket.url, f"{bucket.url}/t.csv", table):
        source = open_source(location, endpoint_url=bucket.endpoint)
        (page,) = source.pages()
        assert [source.read(item, limits=Limits()) for item in page.objects] == [b"image"]
