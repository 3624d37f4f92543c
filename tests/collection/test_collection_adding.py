"""add(): what it writes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import COLOURS, FakeEmbedder, RecordingClient, solid_image, write_image
from PIL import Image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection import add as adding
from clip_qdrant.collection.add import AddResult
from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ConfigError, ImageError, MetadataError, SourceError
from clip_qdrant.uris import point_id, to_uri

WRITES = {"upsert", "overwrite_payload", "batch_update_points"}


@pytest.fixture
def photos(client: QdrantBase) -> ImageCollection:
    recorder: Any = RecordingClient(client)
    return ImageCollection("photos", FakeEmbedder(), recorder)


def written(photos: ImageCollection) -> list[str]:
    """The kinds of writes since last asked."""
    calls: list[str] = photos.client.calls  # type: ignore[attr-defined]  # a RecordingClient
    found = [name for name in calls if name in WRITES]
    calls.clear()
    return found


def test_added_files_are_found_by_what_they_show(photos: ImageCollection, tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{colour}.png", colour) for colour in COLOURS]
    assert photos.add(paths) == AddResult(added=len(COLOURS))
    for colour, path in zip(COLOURS, paths, strict=True):
        assert photos.search(colour, limit=1)[0].path == path


def test_a_payload_follows_the_profile(photos: ImageCollection, tmp_path: Path) -> None:
    path = write_image(tmp_path / "red.png", "red", (30, 20))
    photos.add([path], captions=["a red card"], metadata=[{"year": 2024}])
    hit = photos.get(path)
    assert hit is not None
    assert hit.id == point_id(to_uri(path))
    image = dict(hit.payload["image"])
    assert (image.pop("width"), image.pop("height"), image.pop("format")) == (30, 20, "PNG")
    assert image.pop("bytes") == path.stat().st_size
    assert image.pop("sha256") == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(image) == ["phash"]
    rest = {key: value for key, value in hit.payload.items() if key not in ("image", "ingested_at")}
    assert rest == {
        "uri": path.as_uri(),
        "caption": "a red card",
        "metadata": {"year": 2024},
        "fingerprint": photos.embedder.fingerprint,
        "words": {"caption": ["a", "red", "card"]},
    }


def test_adding_the_same_again_writes_nothing_and_embeds_nothing(photos: ImageCollection, tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{colour}.png", colour) for colour in ("red", "blue")]
    extras: dict[str, Any] = {"captions": ["one", None], "metadata": [{"year": 2024, "tags": ("a", "b")}, {}]}
    photos.add(paths, **extras)
    written(photos)
    assert photos.add(paths, **extras) == AddResult(unchanged=2)
    assert written(photos) == []
    assert photos.embedder.image_calls == [2]  # type: ignore[attr-defined]  # a FakeEmbedder


def test_other_metadata_replaces_the_payload_without_embedding(photos: ImageCollection, tmp_path: Path) -> None:
    path = write_image(tmp_path / "red.png", "red")
    photos.add([path], metadata=[{"year": 2023, "draft": True}])
    written(photos)
    assert photos.add([path], metadata=[{"year": 2024}]) == AddResult(updated=1)
    assert "upsert" not in written(photos)
    assert photos.embedder.image_calls == [1]  # type: ignore[attr-defined]  # a FakeEmbedder
    hit = photos.get(path)
    assert hit is not None
    assert hit.metadata == {"year": 2024}
    assert photos.search("red", limit=1)[0].score == pytest.approx(1, abs=1e-3)


def test_metadata_of_a_known_image_is_replaced_without_decoding_it(
    photos: ImageCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x9003: "2021:07:04 18:30:00", 0x9011: "+02:00"})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 15.0), 3: "E", 4: (11.0, 34.0, 30.0)})
    path = tmp_path / "a.jpg"
    solid_image("red").save(path, exif=exif)
    photos.add([path], metadata=[{"year": 2023}])
    before = photos.writer.read_payloads([path.as_uri()])[path.as_uri()]
    monkeypatch.setattr(adding, "load_image", None)
    assert photos.add([path], metadata=[{"year": 2024}]) == AddResult(updated=1)
    after = photos.writer.read_payloads([path.as_uri()])[path.as_uri()]
    assert "location" in before
    assert {**after, "ingested_at": ""} == {**before, "metadata": {"year": 2024}, "ingested_at": ""}


def test_what_ingestion_knew_of_the_source_survives_a_change_of_metadata(
    photos: ImageCollection, tmp_path: Path
) -> None:
    path = write_image(tmp_path / "red.png", "red")
    photos.add([path])
    stored = photos.writer.read_payloads([path.as_uri()])[path.as_uri()]
    source = {"name": "bucket", "etag": "x1", "size": 3}
    photos.client.overwrite_payload("photos", payload={**stored, "source": source}, points=[point_id(path.as_uri())])
    photos.add([path], metadata=[{"year": 2024}])
    assert photos.writer.read_payloads([path.as_uri()])[path.as_uri()]["source"] == source


def test_changed_bytes_are_embedded_anew(photos: ImageCollection, tmp_path: Path) -> None:
    path = write_image(tmp_path / "card.png", "red")
    photos.add([path], captions=["my card"], metadata=[{"year": 2024}])
    write_image(path, "blue")
    assert photos.add([path]) == AddResult(updated=1)
    assert photos.count() == 1
    hit = photos.search("blue", limit=1)[0]
    assert hit.score == pytest.approx(1, abs=1e-3)
    assert (hit.caption, hit.metadata) == ("my card", {"year": 2024})


def test_what_is_not_given_stays_and_what_is_given_empty_goes(photos: ImageCollection) -> None:
    image = [solid_image("red")]
    photos.add(image, uris=["urn:card"], captions=["a card"], metadata=[{"year": 2024}])
    assert photos.add(image, uris=["urn:card"]) == AddResult(unchanged=1)
    assert photos.add(image, uris=["urn:card"], captions=[""], metadata=[None]) == AddResult(updated=1)
    hit = photos.get("urn:card")
    assert hit is not None
    assert (hit.caption, hit.metadata) == (None, {"year": 2024})
    photos.add(image, uris=["urn:card"], metadata=[{}])
    hit = photos.get("urn:card")
    assert hit is not None
    assert hit.metadata == {}


def test_an_image_without_a_file_is_known_by_its_content(photos: ImageCollection, tmp_path: Path) -> None:
    data = write_image(tmp_path / "red.png", "red").read_bytes()
    pixels = np.full((20, 20, 3), (0, 0, 255), np.uint8)
    assert photos.add([data, solid_image("green"), pixels]) == AddResult(added=3)
    assert photos.search("red", limit=1)[0].uri == f"urn:sha256:{hashlib.sha256(data).hexdigest()}"
    assert photos.add([data, solid_image("green"), pixels.copy()]) == AddResult(unchanged=3)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_of_a_uri_given_twice_the_last_wins(photos: ImageCollection, batch_size: int) -> None:
    images = [solid_image("red"), solid_image("blue")]
    photos.add(images, uris=["urn:x", "urn:x"], captions=["first", None], batch_size=batch_size)
    assert photos.count() == 1
    hit = photos.search("blue", limit=1)[0]
    assert hit.score == pytest.approx(1, abs=1e-3)
    assert hit.caption == "first"


def test_a_path_a_relative_path_and_a_file_uri_are_the_same_image(
    photos: ImageCollection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "ein rotes Bild #1 ä.png", "red")
    monkeypatch.chdir(tmp_path)
    photos.add([path])
    assert photos.add([path.name, path.as_uri(), str(path)]) == AddResult(unchanged=1)


def test_images_are_taken_from_an_iterator_a_batch_at_a_time(photos: ImageCollection) -> None:
    drawn: list[int] = []
    seen: list[int] = []

    def images() -> Iterator[Image.Image]:
        for number in range(10):
            drawn.append(number)
            yield solid_image((number, 0, 0))

    photos.add(images(), batch_size=4, progress=lambda number: seen.append(len(drawn)))
    assert seen == [4, 8, 10]
    assert photos.embedder.image_calls == [4, 4, 2]  # type: ignore[attr-defined]  # a FakeEmbedder


def test_progress_is_told_the_size_of_each_batch(photos: ImageCollection) -> None:
    told: list[int] = []
    photos.add([solid_image((n, 0, 0)) for n in range(5)], batch_size=2, progress=told.append)
    assert told == [2, 2, 1]


def test_adding_nothing_creates_nothing(photos: ImageCollection) -> None:
    assert photos.add([]) == AddResult()
    assert not photos.exists()


def test_a_bad_image_is_named_and_only_the_batches_before_it_are_stored(
    photos: ImageCollection, tmp_path: Path
) -> None:
    paths = [write_image(tmp_path / f"{n}.png", (n, 0, 0)) for n in range(6)]
    paths[3].write_bytes(b"no image at all")
    with pytest.raises(ImageError, match=f"image 3.*{paths[3].as_uri()}"):
        photos.add(paths, batch_size=2)
    assert photos.count() == 2


def test_a_file_that_is_missing_is_named(photos: ImageCollection, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"image 0.*gone\.jpg"):
        photos.add([tmp_path / "gone.jpg"])
    assert not photos.exists()


def test_metadata_that_does_not_fit_stops_before_its_batch_is_stored(photos: ImageCollection) -> None:
    images = [solid_image((n, 0, 0)) for n in range(4)]
    with pytest.raises(MetadataError, match="year"):
        photos.add(images, metadata=[{"year": 1}, {"year": 2}, {"year": 3}, {"year": "four"}], batch_size=2)
    assert photos.count() == 2


def test_a_batch_of_new_and_known_images_is_stored_whole_or_not_at_all(photos: ImageCollection) -> None:
    red, blue = solid_image("red"), solid_image("blue")
    photos.add([red])
    with pytest.raises(MetadataError, match="rating"):
        photos.add([red, blue], metadata=[{"rating": "good"}, {"rating": 5}])
    assert photos.count() == 1
    assert "metadata.rating" not in photos.fields


@pytest.mark.parametrize("column", ["uris", "captions", "metadata"])
@pytest.mark.parametrize("number", [2, 4])
def test_lists_of_other_length_are_refused_before_anything_is_read(
    photos: ImageCollection, column: str, number: int
) -> None:
    extras: dict[str, Any] = {column: [None] * number}
    with pytest.raises(ConfigError, match=f"3 images, {number} {column}"):
        photos.add([solid_image("red")] * 3, batch_size=1, **extras)
    assert not photos.exists()


@pytest.mark.parametrize(("number", "message"), [(4, "more images than captions: 4"), (7, "more captions.*5 images")])
def test_iterators_of_other_length_stop_after_the_finished_batches(
    photos: ImageCollection, number: int, message: str
) -> None:
    images = (solid_image((n, 0, 0)) for n in range(5))
    with pytest.raises(ConfigError, match=message):
        photos.add(images, captions=iter(["x"] * number), batch_size=2)
    assert photos.count() == 4


@pytest.mark.parametrize(
    "image", ["cat.jpg", Path("cat.jpg"), b"bytes", solid_image("red"), np.zeros((8, 8, 3), np.uint8)]
)
def test_a_single_image_is_refused_with_the_way_out(photos: ImageCollection, image: Any) -> None:
    with pytest.raises(ConfigError, match="put it in a list"):
        photos.add(image)


def test_one_dict_for_all_images_is_refused(photos: ImageCollection) -> None:
    with pytest.raises(ConfigError, match="metadata takes an iterable"):
        photos.add([solid_image("red")], metadata={"year": 2024})  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize("uri", ["photo-1", "/photos/1.jpg", "photo:1", 1])
def test_a_uri_without_a_scheme_is_refused(photos: ImageCollection, uri: Any) -> None:
    with pytest.raises(ConfigError, match=rf"uri {uri!r} of image 0 has no scheme that is known: begin it with urn:"):
        photos.add([solid_image("red")], uris=[uri])


def test_the_scheme_of_a_uri_is_one_in_upper_and_lower_case(photos: ImageCollection) -> None:
    photos.add([solid_image("red")], uris=["S3://Photos/1.jpg"])
    photos.add([solid_image("blue")], uris=["s3://Photos/1.jpg"])
    assert [hit.uri for hit in photos.search()] == ["s3://Photos/1.jpg"]
    assert photos.get("S3://Photos/1.jpg") is not None


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_a_batch_size_that_is_no_positive_number_is_refused(photos: ImageCollection, size: Any) -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        photos.add([solid_image("red")], batch_size=size)


def test_a_caption_that_is_no_text_is_refused(photos: ImageCollection) -> None:
    with pytest.raises(MetadataError, match="caption must be text, not 7"):
        photos.add([solid_image("red")], captions=[7])  # type: ignore[list-item]  # the mistake under test


def test_a_url_is_not_fetched_and_the_error_says_so(photos: ImageCollection) -> None:
    with pytest.raises(SourceError, match=r"image 0 \(http://example\.com/x\.jpg\): nothing is fetched from a URL"):
        photos.add(["http://example.com/x.jpg"])


def test_one_file_by_two_paths_is_one_image(photos: ImageCollection, tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", "red")
    (tmp_path / "sub").mkdir()
    photos.add([path])
    around = tmp_path / "sub" / ".." / "a.png"
    for name in (around, str(around)):
        assert photos.add([name]) == AddResult(unchanged=1)
        assert photos.get(name) is not None
    assert photos.count() == 1


def test_a_link_is_an_image_of_its_own(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", "red")
    (tmp_path / "b.png").symlink_to(path)
    assert to_uri(tmp_path / "b.png") == (tmp_path / "b.png").as_uri()
