"""What Google Takeout, Lightroom, darktable and label tools lay beside images is read, or passed over and told."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, solid_image, write_image
from PIL import ExifTags, Image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.hits import Hit
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.fields.dates import join_dates
from clip_qdrant_ingestion import FolderSource, ingest
from clip_qdrant_ingestion.sources.descriptions import describe_text
from clip_qdrant_ingestion.sources.tree.sidecars import FolderSidecars
from clip_qdrant_ingestion.sources.tree.takeout import describe_takeout

NEW_YEAR = "1735705800"  # 2025-01-01T04:30:00Z, 23:30 of the day before in New York
TAKEOUT = {
    "title": "IMG_1.jpg",
    "description": "At the lake",
    "imageViews": "12",
    "creationTime": {"timestamp": "1735800000", "formatted": "…"},
    "photoTakenTime": {"timestamp": NEW_YEAR, "formatted": "…"},
    "geoData": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
    "geoDataExif": {"latitude": 48.1, "longitude": 11.5, "altitude": 520.0},
    "people": [{"name": "Ann"}, {"name": "Ben"}, {}],
    "googlePhotosOrigin": {"mobileUpload": {"deviceType": "ANDROID_PHONE"}},
}


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


def only(collection: ImageCollection) -> Hit:
    (payload,) = collection.writer.scan()
    hit = collection.get(payload["uri"])
    assert hit is not None
    return hit


def write_photo(path: Path, taken: str | None = None) -> None:
    exif = Image.Exif()
    if taken is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    file = io.BytesIO()
    solid_image("red").save(file, "JPEG", exif=exif)
    path.write_bytes(file.getvalue())


def test_takeout_gives_date_place_people_and_description(tmp_path: Path, collection: ImageCollection) -> None:
    write_photo(tmp_path / "IMG_1.jpg")
    (tmp_path / "IMG_1.jpg.supplemental-metadata.json").write_text(json.dumps(TAKEOUT))
    report = ingest(FolderSource(tmp_path), collection)
    assert (report.added, report.quarantined, report.fields_left_out) == (1, (), ())
    hit = only(collection)
    assert hit.taken_at == datetime(2025, 1, 1, 4, 30, tzinfo=UTC)
    assert hit.payload["location"] == {"lat": 48.1, "lon": 11.5}
    assert hit.metadata == {"description": "At the lake", "people": ["Ann", "Ben"], "altitude": 520.0}
    assert collection.count("people = 'Ben'") == 1
    assert ingest(FolderSource(tmp_path), collection).skipped == 1


def test_takeouts_moment_and_the_clock_of_the_camera_tell_the_zone(tmp_path: Path, collection: ImageCollection) -> None:
    write_photo(tmp_path / "IMG_1.jpg", "2024:12:31 23:30:00")
    (tmp_path / "IMG_1.jpg.json").write_text(json.dumps(TAKEOUT))
    ingest(FolderSource(tmp_path), collection)
    assert only(collection).payload["taken_at"] == "2024-12-31T23:30:00-05:00"
    assert collection.count("taken_at = '2024'") == 1
    assert ingest(FolderSource(tmp_path), collection).skipped == 1


NEPAL = timezone(timedelta(hours=5, minutes=45))
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "own", "joined"),
    [
        (None, None, None),
        (None, datetime(2024, 5, 1), datetime(2024, 5, 1)),
        (NOON, None, NOON),
        (NOON, datetime(2024, 5, 1, 17, 45), NOON.astimezone(NEPAL)),
        (NOON, datetime(2024, 5, 1, 17, 45, 1, 500), datetime(2024, 5, 1, 17, 45, 1, 500, tzinfo=NEPAL)),
        (NOON, NOON.astimezone(NEPAL), NOON.astimezone(NEPAL)),
        (NOON, datetime(2024, 5, 1, 17, 50), NOON),
        (NOON, datetime(2024, 5, 2, 12), NOON),
        (datetime(2024, 5, 1, 12), datetime(2024, 5, 1, 14), datetime(2024, 5, 1, 12)),
    ],
)
def test_a_moment_and_a_wall_clock_are_joined_where_they_may_be_one(said: Any, own: Any, joined: Any) -> None:
    found = join_dates(said, own)
    assert found == joined
    assert (found is None) or found.utcoffset() == joined.utcoffset()
    assert join_dates(found, own) == found


@pytest.mark.parametrize(
    ("fields", "left_out"),
    [
        ({"photoTakenTime": {"timestamp": "soon"}}, ["taken_at"]),
        ({"photoTakenTime": {"timestamp": "9" * 5000}}, ["taken_at"]),
        ({"photoTakenTime": 7}, ["taken_at"]),
        ({"geoData": {"latitude": 91, "longitude": "x"}, "people": "Ann", "title": 3, "description": " "}, []),
    ],
)
def test_what_takeout_says_wrongly_is_left_out(fields: dict[str, Any], left_out: list[str]) -> None:
    said = describe_takeout(fields)
    assert (said.metadata, [error.field for error in said.left_out]) == ({}, left_out)


LONG = "a_picture_with_a_very_long_name_of_the_summer_of_"  # 49 characters


@pytest.mark.parametrize(
    ("image", "sidecar"),
    [
        ("IMG_1.jpg", "IMG_1.jpg.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        ("IMG_1.jpg", "IMG_1.jpg.supplemental-meta.json"),
        ("IMG_20240131_235959_PORTRAIT.jpg", "IMG_20240131_235959_PORTRAIT.jpg.supplemental-m.json"),
        ("IMG_1(1).jpg", "IMG_1.jpg(1).json"),
        ("IMG_1(2).jpg", "IMG_1.jpg.supplemental-metadata(2).json"),
        ("IMG_1(2).jpg", "IMG_1.jpg.suppl(2).json"),
        ("IMG_1-edited.jpg", "IMG_1.jpg.json"),
        ("IMG_1-bearbeitet.jpg", "IMG_1.jpg.supplemental-metadata.json"),
        ("IMG_1-edited(1).jpg", "IMG_1.jpg.supplemental-metadata(1).json"),
        (f"{LONG}.jpg", f"{LONG[:46]}.json"),
        (f"{LONG[:40]}.jpg", f"{LONG[:40]}.jpg.s.json"),
        ("größe.jpg", "größe.jpg.supplemental-metadata.json"),
        ("IMG_1.jpg", "IMG_1.xmp"),
        ("IMG_1.jpg", "IMG_1.jpg.xmp"),
        ("IMG_1.jpg", "IMG_1.JPG.XMP".replace("JPG", "jpg")),
    ],
)
def test_the_sidecar_of_an_image_is_found(image: str, sidecar: str) -> None:
    folder = FolderSidecars()
    for name in (sidecar, "other.json", "other.jpg.supplemental-metadata.json", "x(1).json"):
        folder.add(name)
    assert folder.beside(image) == [sidecar]
    assert folder.beside("IMG_2.jpg") == folder.beside("IMG_1x.jpg") == []


def test_a_counted_image_does_not_take_the_sidecar_of_the_first() -> None:
    folder = FolderSidecars()
    names = ["IMG.jpg.json", "IMG.jpg(1).json", "IMG-edited.jpg.json"]
    for name in names:
        folder.add(name)
    images = ["IMG.jpg", "IMG(1).jpg", "IMG-edited.jpg", "IMG(2).jpg"]
    assert [folder.beside(image) for image in images] == [[names[0]], [names[1]], [names[2]], []]


XMP = """<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
exif:DateTimeOriginal="2024-12-31T23:30:00-05:00" exif:GPSLatitude="48,6.0N" exif:GPSLongitude="11,30.0E">
<dc:subject><rdf:Bag><rdf:li>lake</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_xmp_beside_an_image_is_read_and_json_goes_over_it(tmp_path: Path, collection: ImageCollection) -> None:
    write_photo(tmp_path / "a.jpg", "2020:01:01 00:00:00")
    (tmp_path / "a.jpg.xmp").write_text(XMP)
    (tmp_path / "a.json").write_text('{"keywords": ["sea"]}')
    assert ingest(FolderSource(tmp_path), collection).added == 1
    hit = only(collection)
    assert hit.payload["taken_at"] == "2024-12-31T23:30:00-05:00"
    assert hit.payload["location"] == {"lat": 48.1, "lon": 11.5}
    assert hit.metadata == {"keywords": ["sea"]}
    assert ingest(FolderSource(tmp_path), collection).skipped == 1
    (tmp_path / "a.json").unlink()
    (tmp_path / "a.jpg.xmp").rename(tmp_path / "a.XMP")
    assert ingest(FolderSource(tmp_path), collection).payload_updated == 1
    assert only(collection).metadata == {"keywords": ["lake"]}


@pytest.mark.parametrize(
    "text",
    [
        "0 0.51 0.42 0.1 0.2",
        "0 0.51 0.42 0.1 0.2\n16 0.1 0.2 0.3 0.4 0.5 0.6\n",
        "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59",
        "10 20 30 40 50 60 70 80 plane 0\n" * 50,
        '{"caption": "no"}',
        '<?xml version="1.0"?><a/>',
    ],
)
def test_a_text_that_is_no_caption_is_told_and_is_none(text: str) -> None:
    said = describe_text(text)
    assert said.caption is None
    assert [error.field for error in said.left_out] == ["caption"]


@pytest.mark.parametrize("text", ["a red card", "42", "3 dogs and 2 cats", "{lens flare} by night", "1girl, solo"])
def test_a_caption_may_have_numbers(text: str) -> None:
    assert (describe_text(f" {text}\n").caption, describe_text(text).left_out) == (text, ())


def test_labels_beside_images_are_counted_and_not_stored(tmp_path: Path, collection: ImageCollection) -> None:
    for number in range(3):
        write_image(tmp_path / f"{number}.png", (number, 9, 9))
        (tmp_path / f"{number}.txt").write_text("0 0.5 0.5 0.1 0.2\n" if number else "a card")
    report = ingest(FolderSource(tmp_path), collection)
    assert (report.added, report.quarantined) == (3, ())
    assert [(row.field, row.count) for row in report.fields_left_out] == [("caption", 2)]
    assert collection.count("caption exists") == 1
