"""Metadata called caption, taken_at or location fills the fields that every image has, and goes over its file's own."""

from __future__ import annotations

import io
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, solid_image
from PIL import ExifTags, Image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.standard_fields import STANDARD_FIELDS, fill_standard_fields
from clip_qdrant.errors import ConfigError, MetadataError
from clip_qdrant.fields.types import Location
from clip_qdrant.fields.values import LONGEST_TEXT
from clip_qdrant.records import ImageRecord

CEST = timezone(timedelta(hours=2))


def photo(taken: str = "2021:07:04 18:30:00") -> bytes:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    file = io.BytesIO()
    solid_image("red").save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.fixture
def photos(client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), client)


def only(photos: ImageCollection) -> dict[str, Any]:
    (payload,) = photos.writer.scan()
    return {name: payload.get(name) for name in ("caption", "taken_at", "location", "metadata")}


def test_metadata_fills_the_standard_fields_and_can_be_asked_for(photos: ImageCollection) -> None:
    said = {"caption": "a card", "taken_at": "2024-05-01T18:30:00+02:00", "location": "48.1, 11.5", "title": "Card"}
    for _ in range(2):
        photos.add([photo()], metadata=[said])
        assert only(photos) == {
            "caption": "a card",
            "taken_at": "2024-05-01T18:30:00+02:00",
            "location": {"lat": 48.1, "lon": 11.5},
            "metadata": {"title": "Card"},
        }
    for where in ("caption ~ 'card'", "taken_at = '2024-05-01'", "location within 5 km of (48.1, 11.5)"):
        assert photos.count(where) == 1
    assert photos.add([photo()], metadata=[said]).unchanged == 1


def test_what_is_said_goes_over_the_file_and_the_file_comes_back(photos: ImageCollection) -> None:
    photos.add([photo()])
    assert only(photos)["taken_at"] == "2021-07-04T18:30:00"
    assert photos.add([photo()], metadata=[{"taken_at": date(2020, 1, 1), "n": 1}]).updated == 1
    assert only(photos)["taken_at"] == "2020-01-01T00:00:00"
    assert photos.add([photo()]).unchanged == 1
    assert photos.add([photo()], captions=["new"]).updated == 1
    assert (only(photos)["taken_at"], only(photos)["metadata"]) == ("2020-01-01T00:00:00", {"n": 1})
    assert photos.add([photo()], metadata=[{}]).updated == 1
    assert only(photos)["taken_at"] == "2021-07-04T18:30:00"
    assert photos.add([photo()]).unchanged == 1


def test_a_caption_that_is_given_goes_over_one_in_the_metadata(photos: ImageCollection) -> None:
    photos.add([photo()], captions=["given"], metadata=[{"caption": "other"}])
    assert (only(photos)["caption"], only(photos)["metadata"]) == ("given", {})


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2024-05-01", datetime(2024, 5, 1)),
        ("2024:05:01 18:30:00", datetime(2024, 5, 1, 18, 30)),
        ("20240501", datetime(2024, 5, 1)),
        ("2024-05-01T18:30:00+02:00", datetime(2024, 5, 1, 18, 30, tzinfo=CEST)),
        (np.datetime64("2024-05-01T18:30"), datetime(2024, 5, 1, 18, 30)),
        (datetime(2024, 5, 1, tzinfo=CEST), datetime(2024, 5, 1, tzinfo=CEST)),
    ],
)
def test_dates_are_read(value: Any, moment: datetime) -> None:
    assert fill_standard_fields(ImageRecord("urn:a", metadata={"taken_at": value})).taken_at == moment


@pytest.mark.parametrize(
    "value",
    [
        {"lat": 48, "lon": 11.5},
        {"latitude": 48.0, "longitude": 11.5},
        [48.0, 11.5],
        (48.0, 11.5),
        "48,11.5",
        "48.0 11.5",
        Location(48.0, 11.5),
    ],
)
def test_places_are_read(value: Any) -> None:
    assert fill_standard_fields(ImageRecord("urn:a", metadata={"location": value})).location == Location(48.0, 11.5)


def test_a_place_in_words_stays_metadata(photos: ImageCollection) -> None:
    photos.add([photo()], metadata=[{"location": "Berlin"}])
    assert (only(photos)["location"], only(photos)["metadata"]) == (None, {"location": "Berlin"})
    assert photos.count("metadata.location = 'Berlin'") == 1


BAD = [
    ("taken_at", "yesterday", "is no date"),
    ("taken_at", 2024, "is no date"),
    ("location", "91,0", "is no place"),
    ("location", [1.0], "is no place"),
    ("caption", 7, "caption must be text"),
    ("caption", "\ud800", "not valid Unicode"),
    ("caption", "x" * (LONGEST_TEXT + 1), "has 65537 bytes"),
    ("notes", "ö" * LONGEST_TEXT, "has 131072 bytes"),
]


@pytest.mark.parametrize(("field", "value", "says"), BAD)
def test_what_cannot_be_read_is_refused_or_left_out(photos: ImageCollection, field: str, value: Any, says: str) -> None:
    with pytest.raises(MetadataError, match=says):
        photos.add([photo()], metadata=[{field: value, "n": 1}])
    left_out: list[MetadataError] = []
    record = photos.writer.check(ImageRecord("urn:a", metadata={field: value, "n": 1}), left_out=left_out)
    assert (record.caption, record.taken_at, record.location, record.metadata) == (None, None, None, {"n": 1})
    assert [error.field for error in left_out] == [field]


def test_a_text_of_the_longest_length_is_stored(photos: ImageCollection) -> None:
    photos.add([photo()], captions=["x" * LONGEST_TEXT])
    with pytest.raises(MetadataError, match="shorten it"):
        photos.add([photo()], captions=["x" * (LONGEST_TEXT + 1)])


@pytest.mark.parametrize("field", ["caption", "taken_at", "location"])
def test_a_standard_field_is_declared_with_its_own_type_alone(client: QdrantBase, field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} is a field of every image"):
        ImageCollection("photos", FakeEmbedder(), client, fields={field: "integer"})
    fields: Any = {field: STANDARD_FIELDS[field], "year": "integer"}
    photos = ImageCollection("photos", FakeEmbedder(), client, fields=fields)
    assert f"metadata.{field}" not in photos.fields
    assert photos.fields["metadata.year"] == "integer"


@pytest.mark.parametrize("fields", [["year"], "year", [("year", "integer")]])
def test_fields_are_a_dict(client: QdrantBase, fields: Any) -> None:
    with pytest.raises(ConfigError, match="fields is a dict of names and types"):
        ImageCollection("photos", FakeEmbedder(), client, fields=fields)


@pytest.mark.parametrize("metadata", [{"n": 1}, "n", [{"n": 1}], [["n", 1]], ["n"], [1], 3])
def test_metadata_of_the_wrong_shape_is_a_typed_error(photos: ImageCollection, metadata: Any) -> None:
    with pytest.raises((ConfigError, MetadataError), match="metadata"):
        photos.add([photo(), photo("2022:01:01 00:00:00")], metadata=metadata)
    assert not photos.exists() or photos.count() == 0
