"""write(), write_payloads(), read_payloads() and check(): what the ingestion pipeline stands on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, RecordingClient
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import count_bytes, split_requests
from clip_qdrant.errors import InvalidPoint, MetadataError, StoreError
from clip_qdrant.fields.schema import Schema
from clip_qdrant.fields.types import Location
from clip_qdrant.records import ImageInfo, ImageRecord, SourceInfo
from clip_qdrant.uris import point_id

DIM = 16


@pytest.fixture
def photos(client: QdrantBase) -> ImageCollection:
    recorder: Any = RecordingClient(client)
    return ImageCollection("photos", FakeEmbedder(DIM), recorder)


def calls(photos: ImageCollection) -> list[str]:
    return photos.client.calls  # type: ignore[attr-defined]  # a RecordingClient


def records(number: int, **metadata: Any) -> list[ImageRecord]:
    return [ImageRecord(f"urn:{n}", metadata=metadata) for n in range(number)]


def axes(number: int) -> np.ndarray:
    return np.eye(DIM, dtype=np.float32)[:number]


FULL = ImageRecord(
    uri="s3://bucket/a.jpg",
    caption="a card",
    metadata={"year": 2024, "day": datetime(2024, 5, 1, tzinfo=UTC), "tags": ["a"]},
    image=ImageInfo(30, 20, "JPEG", 1000, "ab" * 32, "0" * 16),
    taken_at=datetime(2024, 5, 1, 12, tzinfo=UTC),
    location=Location(48.1, 11.6),
    source=SourceInfo("bucket", etag="x1", size=1000, mtime=1.5),
)


def test_a_whole_record_is_stored_as_its_payload(photos: ImageCollection) -> None:
    before = datetime.now(UTC)
    photos.writer.write([FULL], axes(1))
    payload = photos.writer.read_payloads([FULL.uri])[FULL.uri]
    assert before <= datetime.fromisoformat(payload.pop("ingested_at")) <= datetime.now(UTC)
    assert payload == {
        "uri": "s3://bucket/a.jpg",
        "caption": "a card",
        "metadata": {"year": 2024, "day": "2024-05-01T00:00:00+00:00", "tags": ["a"]},
        "image": {
            "width": 30,
            "height": 20,
            "format": "JPEG",
            "bytes": 1000,
            "sha256": "ab" * 32,
            "phash": "0" * 16,
        },
        "taken_at": "2024-05-01T12:00:00+00:00",
        "location": {"lat": 48.1, "lon": 11.6},
        "source": {"name": "bucket", "etag": "x1", "size": 1000, "mtime": 1.5},
        "fingerprint": photos.embedder.fingerprint,
        "local_time": {"taken_at": "2024-05-01T12:00:00", "metadata": {"day": "2024-05-01T00:00:00"}},
        "calendar": {"taken_at": [501, 10312]},  # a Wednesday, 12 o'clock
        "words": {"caption": ["a", "card"]},
    }


def test_a_batch_is_one_upsert(photos: ImageCollection) -> None:
    photos.writer.write(records(10), axes(10))
    assert calls(photos).count("upsert") == 1
    assert photos.count() == 10


def test_writing_twice_changes_nothing_but_the_time(photos: ImageCollection) -> None:
    photos.writer.write(records(3), axes(3))
    photos.writer.write(records(3), axes(3))
    assert photos.count() == 3


def test_of_a_uri_that_comes_twice_in_a_batch_the_last_wins(photos: ImageCollection) -> None:
    photos.writer.write([ImageRecord("urn:x", caption="first"), ImageRecord("urn:x", caption="last")], axes(2))
    (hit,) = photos.search(axes(2)[1])
    assert (hit.caption, hit.score) == ("last", pytest.approx(1, abs=1e-4))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v[:1], r"\(2, 16\).*\(1, 16\)"),
        (lambda v: v[:, :8], r"\(2, 16\).*\(2, 8\)"),
        (lambda v: v[0], r"\(2, 16\).*\(16,\)"),
        (lambda v: v.astype(np.int32), "int32"),
        (lambda v: v.astype(str), "floats"),
        (lambda v: np.stack([v[0], v[1] * np.nan]), "urn:1 has values that are not finite"),
        (lambda v: np.stack([v[0], v[1] * np.inf]), "urn:1 has values that are not finite"),
        (lambda v: np.stack([v[0], v[1] * 0]), "urn:1 has length 0, not 1"),
        (lambda v: np.stack([v[0], v[1] * 1.01]), "urn:1 has length 1.01, not 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_vector_that_is_no_unit_row_is_refused_before_any_call(
    photos: ImageCollection, spoil: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    calls(photos).clear()
    with pytest.raises(InvalidPoint, match=message):
        photos.writer.write(records(2), spoil(axes(2)))
    assert calls(photos) == []


def test_half_and_double_precision_are_taken(photos: ImageCollection) -> None:
    photos.writer.write(records(1), axes(1).astype(np.float16))
    photos.writer.write(records(1), axes(1).astype(np.float64))
    assert photos.count() == 1


def test_one_bad_value_keeps_the_whole_batch_out(photos: ImageCollection) -> None:
    photos.writer.write(records(1, year=2024), axes(1))
    batch = [ImageRecord("urn:good", metadata={"year": 1}), ImageRecord("urn:bad", metadata={"year": "one"})]
    with pytest.raises(MetadataError, match=r"urn:bad.*year.*one"):
        photos.writer.write(batch, axes(2))
    with pytest.raises(MetadataError, match="urn:bad"):
        photos.writer.write_payloads(batch)
    assert photos.count() == 1


def test_a_bad_first_batch_creates_no_collection(photos: ImageCollection) -> None:
    with pytest.raises(MetadataError):
        photos.writer.write([ImageRecord("urn:bad", metadata={"year": object()})], axes(1))
    assert not photos.exists()


@pytest.mark.parametrize("record", [ImageRecord(""), ImageRecord("urn:\ud800"), ImageRecord("urn:x", caption="\udcff")])
def test_a_uri_or_caption_that_json_cannot_hold_is_refused(photos: ImageCollection, record: ImageRecord) -> None:
    for refused in (lambda: photos.writer.write([record], axes(1)), lambda: photos.writer.check(record)):
        with pytest.raises(MetadataError, match=r"uri|caption"):
            refused()


def test_writing_nothing_makes_no_call(photos: ImageCollection) -> None:
    calls(photos).clear()
    photos.writer.write([], np.zeros((0, DIM), np.float32))
    photos.writer.write_payloads([])
    assert calls(photos) == []


def test_a_payload_is_replaced_whole_and_its_vector_kept(photos: ImageCollection) -> None:
    photos.writer.write([FULL], axes(1))
    photos.writer.write_payloads([ImageRecord(FULL.uri, metadata={"album": "new"})])
    payload = photos.writer.read_payloads([FULL.uri])[FULL.uri]
    assert payload.keys() == {"uri", "metadata", "fingerprint", "ingested_at"}
    assert payload["metadata"] == {"album": "new"}
    assert photos.search(axes(1)[0], where="album = 'new'")[0].score == pytest.approx(1, abs=1e-4)


def test_the_payload_of_an_image_that_is_not_there_is_refused(photos: ImageCollection) -> None:
    photos.writer.write(records(1), axes(1))
    with pytest.raises(StoreError, match=point_id("urn:unknown")):
        photos.writer.write_payloads([ImageRecord("urn:unknown")])
    assert photos.count() == 1


def test_stored_gives_those_that_are_there(photos: ImageCollection) -> None:
    assert photos.writer.read_payloads(["urn:0"]) == {}
    photos.writer.write(records(2), axes(2))
    found = photos.writer.read_payloads(["urn:0", "urn:7", "urn:1"])
    assert found.keys() == {"urn:0", "urn:1"}
    assert photos.writer.read_payloads([]) == {}


def test_stored_asks_for_many_in_few_calls(photos: ImageCollection) -> None:
    photos.writer.write(records(3), axes(3))
    calls(photos).clear()
    assert len(photos.writer.read_payloads([f"urn:{n}" for n in range(2500)])) == 3
    assert calls(photos) == ["retrieve"] * 3


def test_check_gives_the_record_as_it_would_be_stored(photos: ImageCollection) -> None:
    photos.writer.write(records(1, year=2024), axes(1))
    record = ImageRecord("urn:x", metadata={"year": np.int64(7), "gone": None})
    assert photos.writer.check(record).metadata == {"year": 7}
    with pytest.raises(MetadataError, match=r"urn:x.*year"):
        photos.writer.check(ImageRecord("urn:x", metadata={"year": "seven"}))


def test_a_record_that_was_checked_is_normalised_again_only_when_the_fields_have_changed(
    photos: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.writer.write(records(1, year=2024), axes(1))
    normalised: list[object] = []
    normalise = Schema._normalise

    def count(schema: Schema, metadata: Any, above: tuple[str, ...], *arguments: Any) -> dict[str, Any]:
        if not above:
            normalised.append(dict(metadata))
        return normalise(schema, metadata, above, *arguments)

    monkeypatch.setattr(Schema, "_normalise", count)
    checked = photos.writer.check(ImageRecord("urn:x", metadata={"year": 2025}))
    photos.writer.prepare([checked])
    photos.writer.write([replace(checked, image=FULL.image)], axes(1))
    photos.writer.write_payloads([checked])
    assert normalised == [{"year": 2025}]
    photos.writer.write([ImageRecord("urn:y", metadata={"album": "new"})], axes(1))
    del normalised[:]
    photos.writer.write_payloads([checked])
    assert normalised == [{"year": 2025}]
    photos.writer.write_payloads([replace(checked, metadata={**checked.metadata, "album": "b"})])
    assert normalised[1:] == [{"year": 2025, "album": "b"}]


def test_several_threads_write_check_and_read_at_once(photos: ImageCollection) -> None:
    photos.writer.write(records(1), axes(1))
    errors: list[Exception] = []

    def work(worker: int) -> None:
        try:
            for step in range(10):
                record = ImageRecord(f"urn:{worker}/{step}", metadata={"worker": worker, f"only_{worker}": step})
                photos.writer.check(record)
                photos.writer.write([record], axes(1))
                assert record.uri in photos.writer.read_payloads([record.uri])
                assert photos.search(axes(1)[0], where=f"only_{worker} = {step}")[0].uri == record.uri
        except Exception as error:  # noqa: BLE001  a thread's error is reported by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert photos.count() == 41
    assert {f"metadata.only_{n}" for n in range(4)} <= photos.fields.keys()


def test_what_is_larger_than_a_server_takes_is_several_requests() -> None:
    sizes = [20 << 20, 3 << 20, 3 << 20, 30 << 20, 1]
    assert list(split_requests("abcde", sizes)) == [["a", "b"], ["c"], ["d"], ["e"]]
    assert list(split_requests("", [])) == []
    assert len(b'{"caption": "\xc3\xb6"}') < count_bytes({"caption": "ö"}, 4) < 200
