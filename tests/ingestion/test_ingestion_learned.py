"""What is learned of an image besides its pixels: whose word wins, what types it gets, how it can be searched for."""

from __future__ import annotations

import io
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, write_image
from PIL import Image
from qdrant_client.client_base import QdrantBase
from s3 import Bucket, new_bucket

from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant_ingestion import BucketSource, Description, FolderSource, Page, Source, SourceObject, ingest
from clip_qdrant_ingestion.sources.path_pattern import PathPattern, PatternedSource
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return new_bucket(monkeypatch)


def xmp(title: str | None, keywords: tuple[str, ...]) -> bytes:
    parts = f"<dc:title><rdf:Alt><rdf:li xml:lang='x-default'>{title}</rdf:li></rdf:Alt></dc:title>" if title else ""
    parts += f"<dc:subject><rdf:Bag>{''.join(f'<rdf:li>{k}</rdf:li>' for k in keywords)}</rdf:Bag></dc:subject>"
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">{parts}</rdf:Description>
    </rdf:RDF></x:xmpmeta>""".encode()


def photo(
    *, camera: str = "Box", iso: int = 200, title: str | None = None, keywords: tuple[str, ...] = (), red: int = 0
) -> bytes:
    """A JPEG with tags."""
    exif = Image.Exif()
    exif[0x0110] = camera
    exif.get_ifd(0x8769).update({0x8827: iso, 0x9003: "2021:07:04 18:30:00", 0x9011: "+02:00"})
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (red, 5, 5)).save(file, "JPEG", exif=exif, xmp=xmp(title, keywords))
    return file.getvalue()


def plain(red: int = 0) -> bytes:
    """A JPEG without tags."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (red, 9, 9)).save(file, "JPEG")
    return file.getvalue()


def only(collection: ImageCollection) -> Hit:
    """The one image there is."""
    (payload,) = collection.writer.scan()
    hit = collection.get(payload["uri"])
    assert hit is not None
    return hit


def metadata(collection: ImageCollection) -> Mapping[str, Any]:
    return only(collection).metadata


# Whose word wins


def test_sidecars_win_over_the_path_the_path_over_headers_and_headers_over_the_file(
    bucket: Bucket, collection: ImageCollection
) -> None:
    headers = {"category": "header", "camera": "header", "software": "header", "album": "header"}
    bucket.put("shoes/2024/a.jpg", photo(title="of the file"), metadata=headers)
    bucket.put("shoes/2024/a.json", '{"category": "sidecar", "camera": "sidecar"}')
    source = PatternedSource(BucketSource(bucket.url), PathPattern("{category}/{album}/*"))
    ingest(source, collection)
    assert metadata(collection) == {
        "category": "sidecar",
        "camera": "sidecar",
        "album": 2024,
        "software": "header",
        "title": "of the file",
        "iso": 200,
    }
    assert ingest(source, collection).skipped == 1


def test_what_was_below_comes_up_when_what_was_above_is_gone(bucket: Bucket, collection: ImageCollection) -> None:
    bucket.put("a.jpg", photo(), metadata={"shelf": "header", "iso": "100"})
    bucket.put("a.json", '{"shelf": "sidecar", "iso": 50, "camera": "sidecar"}')
    source = BucketSource(bucket.url)
    ingest(source, collection)
    assert metadata(collection) == {"shelf": "sidecar", "iso": 50, "camera": "sidecar"}
    bucket.delete("a.json")
    assert ingest(source, collection).payload_updated == 1
    assert metadata(collection) == {"shelf": "header", "iso": 100, "camera": "Box"}
    assert ingest(source, collection).skipped == 1


def test_the_caption_may_come_from_a_header(bucket: Bucket, collection: ImageCollection) -> None:
    bucket.put("a.jpg", photo(), metadata={"caption": "of the header", "shelf": "x"})
    source = BucketSource(bucket.url)
    ingest(source, collection)
    assert (only(collection).caption, metadata(collection)) == (
        "of the header",
        {"camera": "Box", "iso": 200, "shelf": "x"},
    )
    assert ingest(source, collection).skipped == 1
    bucket.put("a.txt", "of the sidecar")
    assert ingest(source, collection).payload_updated == 1
    assert only(collection).caption == "of the sidecar"
    bucket.delete("a.txt")
    assert ingest(source, collection).payload_updated == 1
    assert only(collection).caption == "of the header"
    bucket.put("a.jpg", photo(red=90))
    assert ingest(source, collection).updated == 1
    assert (only(collection).caption, metadata(collection)) == (None, {"camera": "Box", "iso": 200})


def test_a_header_whose_text_does_not_fit_its_field_is_left_out(bucket: Bucket, memory_client: QdrantBase) -> None:
    collection = ImageCollection("photos", FakeEmbedder(), memory_client, fields={"price": "float"})
    bucket.put("a.jpg", photo(), metadata={"price": "19.90"})
    bucket.put("b.jpg", photo(red=9), metadata={"price": "cheap"})
    report = ingest(BucketSource(bucket.url), collection)
    assert (report.added, report.quarantined) == (2, ())
    assert collection.count("price = 19.9") == 1
    (row,) = report.fields_left_out
    assert (row.field, row.count, row.uri) == ("price", 1, f"{bucket.url}/b.jpg")
    assert "'cheap'" in row.detail
    assert ingest(BucketSource(bucket.url), collection).skipped == 2


class Headed(FolderSource):
    """A folder whose files have headers, and a version that is told by the listing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.version, self.headers = "1", {"shelf": "x", "row": "3"}

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        for page in super().pages(folders):
            yield Page([replace(item, etag=self.version) for item in page.objects], page.problems)

    def look(self, item: SourceObject) -> SourceObject:
        return replace(item, said=item.said.over(Description(texts=self.headers)))


def test_new_headers_of_the_same_bytes_replace_the_old(tmp_path: Path, collection: ImageCollection) -> None:
    (tmp_path / "a.jpg").write_bytes(plain())
    source = Headed(tmp_path)
    ingest(source, collection)
    for version, headers in (("2", {"shelf": "y"}), ("3", {}), ("4", {"row": "7"})):
        source.version, source.headers = version, headers
        report = ingest(source, collection)
        assert (report.payload_updated, report.skipped) == (1, 0)
        assert metadata(collection) == {name: int(text) if text.isdigit() else text for name, text in headers.items()}
        assert ingest(source, collection).skipped == 1


# What the file says


def test_tags_outlive_a_new_caption_and_go_with_their_bytes(tmp_path: Path, collection: ImageCollection) -> None:
    (tmp_path / "a.jpg").write_bytes(photo(title="Harbour", keywords=("sea", "boats")))
    source = FolderSource(tmp_path)
    ingest(source, collection)
    tags = {"title": "Harbour", "keywords": ["sea", "boats"], "camera": "Box", "iso": 200}
    assert metadata(collection) == tags
    (tmp_path / "a.json").write_text('{"caption": "new", "title": "mine", "shelf": 3}')
    assert ingest(source, collection).payload_updated == 1
    assert (only(collection).caption, metadata(collection)) == ("new", {**tags, "title": "mine", "shelf": 3})
    (tmp_path / "a.json").unlink()
    assert ingest(source, collection).payload_updated == 1
    assert metadata(collection) == tags
    (tmp_path / "a.jpg").write_bytes(plain())
    assert ingest(source, collection).updated == 1
    hit = only(collection)
    assert (hit.metadata, hit.payload.get("taken_at"), "tags" in hit.payload["image"]) == ({}, None, False)
    assert ingest(source, collection).skipped == 1


def test_tags_can_be_left_where_they_are(tmp_path: Path, collection: ImageCollection) -> None:
    (tmp_path / "a.jpg").write_bytes(photo(title="Harbour"))
    ingest(FolderSource(tmp_path), collection, tags=False)
    hit = only(collection)
    assert (hit.metadata, hit.payload["taken_at"]) == ({}, "2021-07-04T18:30:00+02:00")
    assert ingest(FolderSource(tmp_path), collection, tags=False).skipped == 1


def test_a_date_in_the_name_is_the_last_choice_and_must_be_asked_for(
    tmp_path: Path, collection: ImageCollection
) -> None:
    (tmp_path / "IMG_20240131_235959.jpg").write_bytes(plain())
    (tmp_path / "2020-01-01 beach.jpg").write_bytes(photo())

    def moments() -> set[str | None]:
        return {hit.payload.get("taken_at") for hit in collection.search("red", limit=9)}

    ingest(FolderSource(tmp_path), collection)
    assert moments() == {None, "2021-07-04T18:30:00+02:00"}
    collection.delete(uris=[hit.uri for hit in collection.search("red", limit=9)])
    ingest(FolderSource(tmp_path), collection, name_dates=True)
    assert moments() == {"2024-01-31T23:59:59", "2021-07-04T18:30:00+02:00"}


def test_what_the_file_says_can_be_filtered_by(tmp_path: Path, client: QdrantBase, collection_name: str) -> None:
    collection = ImageCollection(collection_name, FakeEmbedder(), client)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.jpg").write_bytes(photo(camera="Box", iso=100, keywords=("sea",)))
    (tmp_path / "a" / "b.jpg").write_bytes(photo(camera="Box", iso=1600, keywords=("sea", "night"), red=80))
    (tmp_path / "a" / "c.jpg").write_bytes(photo(camera="Reflex", iso=800, title="Evening at the sea", red=160))
    ingest(FolderSource(tmp_path / "a"), collection)

    def found(where: str) -> set[str]:
        return {hit.uri.rpartition("/")[2] for hit in collection.search("red", where=where)}

    assert found("camera = 'Box'") == {"a.jpg", "b.jpg"}
    assert found("iso >= 800") == {"b.jpg", "c.jpg"}
    assert found("keywords = 'night'") == {"b.jpg"}
    assert found("title ~ 'evening'") == {"c.jpg"}
    assert found("taken_at >= '2021-07-04T16:30:00Z' and taken_at < '2021-07-04T16:31:00Z'") == {
        "a.jpg",
        "b.jpg",
        "c.jpg",
    }
    assert {one.value: one.count for one in collection.facet("camera")} == {"Box": 2, "Reflex": 1}


def test_a_title_that_looks_like_a_date_stays_text(tmp_path: Path, collection: ImageCollection) -> None:
    (tmp_path / "a.jpg").write_bytes(photo(title="2021-07-04", camera="2020-01-01"))
    ingest(FolderSource(tmp_path), collection)
    (tmp_path / "b.jpg").write_bytes(photo(title="Harbour", camera="Box", red=90))
    report = ingest(FolderSource(tmp_path), collection)
    assert (report.added, report.quarantined) == (1, ())
    assert (collection.fields["metadata.title"], collection.fields["metadata.camera"]) == ("text", "keyword")


def test_a_tag_that_does_not_fit_a_field_of_the_collection_is_left_out(
    tmp_path: Path, memory_client: QdrantBase
) -> None:
    collection = ImageCollection("photos", FakeEmbedder(), memory_client, fields={"camera": "integer"})
    (tmp_path / "a.jpg").write_bytes(photo(camera="Box"))
    write_image(tmp_path / "b.png", "red")
    report = ingest(FolderSource(tmp_path), collection)
    assert (report.added, report.quarantined) == (2, ())
    assert [(row.field, row.count) for row in report.fields_left_out] == [("camera", 1)]
    assert "'Box'" in report.fields_left_out[0].detail
    assert ingest(FolderSource(tmp_path), collection).skipped == 2
    (tmp_path / "a.json").write_text('{"shelf": 3}')
    assert ingest(FolderSource(tmp_path), collection).payload_updated == 1
    assert ingest(FolderSource(tmp_path), collection).skipped == 2


# What has only a text


def patterned(folder: Path) -> Source:
    return PatternedSource(FolderSource(folder), PathPattern("{year}/*"))


@pytest.mark.parametrize(
    ("field_type", "value"), [("integer", 2024), ("float", 2024.0), ("keyword", "2024"), (None, 2024)]
)
@pytest.mark.parametrize("kind", ["path", "manifest"])
def test_a_text_becomes_a_value_of_its_field(
    tmp_path: Path, memory_client: QdrantBase, kind: str, field_type: Any, value: object
) -> None:
    fields = {} if field_type is None else {"year": field_type}
    collection = ImageCollection("photos", FakeEmbedder(), memory_client, fields=fields)
    write_image(tmp_path / "2024" / "a.png", "red")
    (tmp_path / "table.csv").write_text("image,year\n2024/a.png,2024\n")
    source = patterned(tmp_path) if kind == "path" else ManifestSource(tmp_path / "table.csv")
    report = ingest(source, collection)
    assert report.quarantined == ()
    found = metadata(collection)["year"]
    assert (found, type(found)) == (value, type(value))
    assert ingest(source, collection).skipped == 1


def test_a_text_that_does_not_fit_its_field_is_left_out_and_told_with_the_value(
    tmp_path: Path, collection: ImageCollection
) -> None:
    for year in ("2023", "2024"):
        write_image(tmp_path / year / "a.png", "red")
    ingest(patterned(tmp_path), collection)
    write_image(tmp_path / "summer" / "b.png", "blue")
    report = ingest(patterned(tmp_path), collection)
    (row,) = report.fields_left_out
    assert (report.skipped, report.added, report.quarantined) == (2, 1, ())
    for part in ("'year'", "'summer'", "integer", "summer/b.png"):
        assert part in row.detail + row.uri
    shutil.move(tmp_path / "summer", tmp_path / "2025")
    ingest(patterned(tmp_path), collection)
    assert collection.count("year > 2024") == 1
