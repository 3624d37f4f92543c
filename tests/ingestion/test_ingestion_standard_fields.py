"""Date, place and caption of sidecars and tables fill the fields that every image has, over what its file says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, solid_image, write_image
from PIL import ExifTags, Image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.fields.values import LONGEST_TEXT
from clip_qdrant_ingestion import FolderSource, Source, ingest
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


def write_photo(path: Path) -> None:
    """A JPEG that says when it was taken."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2021:07:04 18:30:00"
    file = io.BytesIO()
    solid_image("red").save(file, "JPEG", exif=exif)
    path.write_bytes(file.getvalue())


def only(collection: ImageCollection) -> dict[str, Any]:
    (payload,) = collection.writer.scan()
    return {name: payload.get(name) for name in ("caption", "taken_at", "location", "metadata")}


SAID = {"caption": "a card", "taken_at": "2024-05-01T18:30:00+02:00", "title": "Card"}
STORED = {
    "caption": "a card",
    "taken_at": "2024-05-01T18:30:00+02:00",
    "location": {"lat": 48.1, "lon": 11.5},
    "metadata": {"title": "Card", "tags": ["red", "paper"]},
}


def write_description(folder: Path, kind: str) -> Source:
    header, cells = "caption,taken_at,title", "a card,2024-05-01T18:30:00+02:00,Card"
    tags = '"[""red"", ""paper""]"'
    if kind == "sidecar":
        said = {**SAID, "location": {"lat": 48.1, "lon": 11.5}, "tags": ["red", "paper"]}
        (folder / "a.json").write_text(json.dumps(said))
    elif kind == "jsonl":
        said = {"file_name": "a.jpg", **SAID, "Latitude": 48.1, "Longitude": 11.5, "tags": ["red", "paper"]}
        (folder / "metadata.jsonl").write_text(json.dumps(said))
    elif kind == "folder table":
        (folder / "metadata.csv").write_text(f'file_name,{header},location,tags\na.jpg,{cells},"48.1,11.5",{tags}\n')
    else:
        (folder / "t.csv").write_text(f"image,{header},lat,lon,tags\na.jpg,{cells},48.1,11.5,{tags}\n")
        return ManifestSource(folder / "t.csv")
    return FolderSource(folder)


@pytest.mark.parametrize("kind", ["sidecar", "jsonl", "folder table", "manifest"])
def test_a_description_fills_the_standard_fields(tmp_path: Path, collection: ImageCollection, kind: str) -> None:
    write_photo(tmp_path / "a.jpg")
    source = write_description(tmp_path, kind)
    report = ingest(source, collection)
    assert (report.added, report.quarantined, report.fields_left_out) == (1, (), ())
    assert only(collection) == STORED
    assert collection.count("taken_at = '2024-05-01' and location within 1 km of (48.1, 11.5) and tags = 'red'") == 1
    assert ingest(source, collection).skipped == 1


def test_the_file_speaks_again_when_its_sidecar_is_gone(tmp_path: Path, collection: ImageCollection) -> None:
    write_photo(tmp_path / "a.jpg")
    source = FolderSource(tmp_path)
    ingest(source, collection)
    (tmp_path / "a.json").write_text('{"taken_at": "2020-01-01", "location": "1,2"}')
    assert ingest(source, collection).payload_updated == 1
    assert (only(collection)["taken_at"], only(collection)["location"]) == (
        "2020-01-01T00:00:00",
        {"lat": 1.0, "lon": 2.0},
    )
    assert ingest(source, collection).skipped == 1
    (tmp_path / "a.json").unlink()
    assert ingest(source, collection).payload_updated == 1
    assert (only(collection)["taken_at"], only(collection)["location"]) == ("2021-07-04T18:30:00", None)
    assert ingest(source, collection).skipped == 1


def test_a_date_that_cannot_be_read_is_told_and_the_files_own_is_taken(
    tmp_path: Path, collection: ImageCollection
) -> None:
    write_photo(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text('{"taken_at": "in summer", "location": "91,0", "shelf": 3}')
    for outcome in ("added", "skipped"):
        report = ingest(FolderSource(tmp_path), collection)
        assert (getattr(report, outcome), report.quarantined) == (1, ())
        assert [(row.field, row.count) for row in report.fields_left_out] == [("location", 1), ("taken_at", 1)]
    assert only(collection) == {
        "caption": None,
        "taken_at": "2021-07-04T18:30:00",
        "location": None,
        "metadata": {"shelf": 3},
    }


def test_a_json_file_of_another_program_costs_its_own_fields_alone(tmp_path: Path, collection: ImageCollection) -> None:
    said = {"version": "5.4", "shapes": [{"label": "car", "points": [[1, 2], [3, 4]]}], 'odd"': 1, "imagePath": "a.png"}
    for number, name in enumerate(("a", "b")):
        write_image(tmp_path / f"{name}.png", (number, 9, 9))
        (tmp_path / f"{name}.json").write_text(json.dumps(said))
    for outcome in ("added", "skipped"):
        report = ingest(FolderSource(tmp_path), collection)
        assert (getattr(report, outcome), report.quarantined) == (2, ())
        assert [(row.field, row.count) for row in report.fields_left_out] == [("'odd\"'", 2), ("shapes", 2)]
    assert collection.count("version = '5.4'") == 2


def test_what_most_values_are_decides_the_type_of_a_new_field(tmp_path: Path, collection: ImageCollection) -> None:
    for number in range(5):
        write_image(tmp_path / f"{number}.png", (number, 9, 9))
        (tmp_path / f"{number}.json").write_text(
            json.dumps({"year": number or "long ago", "a": {"b": 1} if number else 2})
        )
    report = ingest(FolderSource(tmp_path), collection)
    assert (report.added, report.quarantined) == (5, ())
    assert [(row.field, row.count) for row in report.fields_left_out] == [("a", 1), ("year", 1)]
    assert (collection.fields["metadata.year"], collection.fields["metadata.a.b"]) == ("integer", "integer")


def test_a_caption_that_is_too_long_is_told_and_left_out(tmp_path: Path, collection: ImageCollection) -> None:
    write_image(tmp_path / "a.png", "red")
    (tmp_path / "a.txt").write_text("word " * LONGEST_TEXT)
    report = ingest(FolderSource(tmp_path), collection)
    assert (report.added, [row.field for row in report.fields_left_out]) == (1, ["caption"])
    assert only(collection)["caption"] is None
