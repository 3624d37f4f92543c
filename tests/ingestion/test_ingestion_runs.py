"""A run brings the collection to the state of the source, does no work twice, and no bad image stops it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeEmbedder, write_image
from PIL import Image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ConfigError, SourceError, StoreUnavailable
from clip_qdrant.images.load import Limits
from clip_qdrant.store.edge.client import EdgeClient
from clip_qdrant.uris import to_uri
from clip_qdrant_ingestion import FolderSource, Page, Problem, Progress, Report, SourceObject, ingest

COLOURS = ["red", "green", "blue", "yellow", "cyan", "magenta"]


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


@pytest.fixture
def edge_collection(edge_client: EdgeClient) -> ImageCollection:
    """In the embedded store, where it matters: it takes a second to create one."""
    return ImageCollection("photos", FakeEmbedder(), edge_client)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images in two folders, with captions and metadata."""
    folder = tmp_path / "photos"
    for number, colour in enumerate(COLOURS):
        write_image(folder / ("a" if number % 2 else "b") / f"{colour}.png", colour)
    (folder / "metadata.csv").write_text(
        "file_name,caption,year\n"
        + "".join(f"{'a' if n % 2 else 'b'}/{c}.png,a {c} wall,{2020 + n}\n" for n, c in enumerate(COLOURS))
    )
    return folder


def uri(path: Path) -> str:
    return to_uri(path)


def counts(report: Report) -> tuple[int, int, int, int, int]:
    return (report.added, report.updated, report.payload_updated, report.skipped, len(report.quarantined))


def test_the_first_run_stores_every_image_with_its_whole_payload(
    photos: Path, edge_collection: ImageCollection
) -> None:
    report = ingest(FolderSource(photos, name="holidays"), edge_collection, batch_size=4, workers=2)
    assert counts(report) == (6, 0, 0, 0, 0), report.quarantined
    assert (report.listed, report.interrupted, edge_collection.count()) == (6, False, 6)
    hit = edge_collection.get(uri(photos / "b" / "red.png"))
    assert hit is not None
    status = (photos / "b" / "red.png").stat()
    assert hit.caption == "a red wall"
    assert hit.metadata == {"year": 2020}
    assert hit.payload["source"]["name"] == "holidays"
    assert hit.payload["source"]["size"] == status.st_size
    assert hit.payload["source"]["mtime"] == pytest.approx(status.st_mtime, abs=1e-5)
    assert (hit.payload["image"]["width"], hit.payload["image"]["format"]) == (24, "PNG")
    assert edge_collection.search("red", limit=1)[0].uri == hit.uri
    assert {hit.caption for hit in edge_collection.search("blue", where="year >= 2024")} == {
        "a cyan wall",
        "a magenta wall",
    }


def test_the_date_and_place_of_a_photo_are_stored(tmp_path: Path, collection: ImageCollection) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0x9003: "2021:07:04 18:30:00", 0x9011: "+02:00"})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 15.0), 3: "E", 4: (11.0, 34.0, 30.0)})
    path = tmp_path / "in" / "a.jpg"
    path.parent.mkdir()
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    ingest(FolderSource(path.parent), collection)
    hit = collection.get(path)
    assert hit is not None
    assert hit.payload["taken_at"] == "2021-07-04T18:30:00+02:00"
    assert hit.payload["location"] == pytest.approx({"lat": 48.1375, "lon": 11.575})
    assert (hit.payload["image"]["width"], hit.payload["image"]["height"]) == (30, 40)


def test_an_empty_source_creates_nothing(tmp_path: Path, collection: ImageCollection) -> None:
    (tmp_path / "empty").mkdir()
    report = ingest(FolderSource(tmp_path / "empty"), collection)
    assert (report.listed, counts(report), report.interrupted) == (0, (0, 0, 0, 0, 0), False)
    assert not collection.exists()


def test_the_second_run_reads_and_writes_nothing(photos: Path, edge_collection: ImageCollection) -> None:
    ingest(FolderSource(photos), edge_collection)
    before = {hit.uri: hit.payload for hit in edge_collection.search("red")}
    source = CountingSource(FolderSource(photos))
    report = ingest(source, edge_collection)
    assert counts(report) == (0, 0, 0, 6, 0)
    assert source.images_read == []
    assert {hit.uri: hit.payload for hit in edge_collection.search("red")} == before


def test_new_and_changed_images_are_embedded_and_the_others_are_not(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    write_image(photos / "b" / "red.png", "white", (50, 40))
    write_image(photos / "c" / "new.png", "black")
    embedder = collection.embedder
    assert isinstance(embedder, FakeEmbedder)
    embedder.image_calls.clear()
    report = ingest(FolderSource(photos), collection)
    assert counts(report) == (1, 1, 0, 5, 0)
    assert sum(embedder.image_calls) == 2
    assert collection.search("white", limit=1)[0].uri == uri(photos / "b" / "red.png")


def test_a_changed_caption_or_metadata_rewrites_the_payload_without_reading_the_image(
    photos: Path, edge_collection: ImageCollection
) -> None:
    ingest(FolderSource(photos), edge_collection)
    table = photos / "metadata.csv"
    table.write_text(table.read_text().replace("a red wall", "a tomato").replace("2021", "1999"))
    source = CountingSource(FolderSource(photos))
    report = ingest(source, edge_collection)
    assert counts(report) == (0, 0, 2, 4, 0)
    assert source.images_read == []
    red, green = (edge_collection.get(photos / name) for name in ("b/red.png", "a/green.png"))
    assert red is not None
    assert green is not None
    assert (red.caption, green.metadata) == ("a tomato", {"year": 1999})
    assert red.payload["image"]["width"] == 24
    assert edge_collection.search("red", limit=1)[0].id == red.id


def test_a_removed_sidecar_removes_caption_and_metadata(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    (photos / "metadata.csv").unlink()
    assert counts(ingest(FolderSource(photos), collection)) == (0, 0, 6, 0, 0)
    hit = collection.get(photos / "b" / "red.png")
    assert hit is not None
    assert (hit.caption, hit.metadata) == (None, {})


def test_a_touched_file_with_the_same_bytes_is_not_embedded_again(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    os.utime(photos / "b" / "red.png", (1_600_000_000, 1_600_000_000))
    embedder = collection.embedder
    assert isinstance(embedder, FakeEmbedder)
    embedder.image_calls.clear()
    assert counts(ingest(FolderSource(photos), collection)) == (0, 0, 1, 5, 0)
    assert embedder.image_calls == []
    assert counts(ingest(FolderSource(photos), collection)) == (0, 0, 0, 6, 0)


def test_images_that_add_stored_are_adopted_without_embedding(photos: Path, collection: ImageCollection) -> None:
    collection.add([photos / "b" / "red.png"], metadata=[{"year": 1}])
    report = ingest(FolderSource(photos), collection)
    assert counts(report) == (5, 0, 1, 0, 0)
    assert counts(ingest(FolderSource(photos), collection)) == (0, 0, 0, 6, 0)


def described(collection: ImageCollection, path: Path) -> tuple[str | None, dict[str, Any], str | None]:
    """Caption, metadata, and the name of the source whose word they are."""
    hit = collection.get(path)
    assert hit is not None
    return hit.caption, dict(hit.metadata), hit.payload["source"].get("name")


def test_what_add_stored_stays_where_the_source_says_nothing(photos: Path, collection: ImageCollection) -> None:
    (photos / "metadata.csv").unlink()
    (photos / "a" / "green.json").write_text('{"year": 2021}')
    red, green, blue = photos / "b" / "red.png", photos / "a" / "green.png", photos / "b" / "blue.png"
    collection.add([red, green, blue], captions=["mine", "mine", None], metadata=[{"album": "x"}, {"album": "x"}, None])
    name = FolderSource(photos).name
    for number in range(3):
        if number == 1:
            write_image(red, "white")  # embedded anew, and still the caption of somebody else
        report = ingest(FolderSource(photos), collection)
        assert (report.payload_updated, report.updated, report.skipped) == [(3, 0, 0), (0, 1, 5), (0, 0, 6)][number]
        assert described(collection, red) == ("mine", {"album": "x"}, None)
        assert described(collection, green) == ("mine", {"album": "x", "year": 2021}, None)
        assert described(collection, blue) == (None, {}, name)


def test_runs_over_a_folder_and_one_inside_it_settle_without_reading_anything_again(
    photos: Path, collection: ImageCollection
) -> None:
    (photos / "b" / "metadata.csv").write_text("file_name,rating\nred.png,5\n")
    whole, part = FolderSource(photos), FolderSource(photos / "b")
    ingest(whole, collection)
    expected = ("a red wall", {"year": 2020, "rating": 5}, whole.name)
    for folder in (part, whole, part):
        source = CountingSource(folder)
        report = ingest(source, collection)
        assert (report.skipped, source.images_read) == (report.listed, [])
        assert described(collection, photos / "b" / "red.png") == expected
    (photos / "b" / "metadata.csv").write_text("file_name,rating\nred.png,1\n")
    assert counts(ingest(part, collection)) == (0, 0, 1, 2, 0)
    assert counts(ingest(whole, collection)) == (0, 0, 0, 6, 0)
    assert described(collection, photos / "b" / "red.png") == ("a red wall", {"year": 2020, "rating": 1}, whole.name)
    (photos / "metadata.csv").unlink()
    assert counts(ingest(part, collection)) == (0, 0, 0, 3, 0)  # what the other had said is not its to take back
    assert counts(ingest(whole, collection)) == (0, 0, 6, 0, 0)
    assert described(collection, photos / "b" / "red.png") == (None, {"rating": 1}, whole.name)


def test_a_run_that_begins_inside_a_folder_and_goes_on_with_all_of_it_settles_too(
    photos: Path, collection: ImageCollection
) -> None:
    (photos / "b" / "metadata.csv").write_text("file_name,rating\nred.png,5\n")
    whole, part = FolderSource(photos), FolderSource(photos / "b")
    assert counts(ingest(part, collection)) == (3, 0, 0, 0, 0)
    assert counts(ingest(whole, collection)) == (3, 0, 3, 0, 0)
    for source in (part, whole):
        assert (report := ingest(source, collection)).skipped == report.listed
    assert described(collection, photos / "b" / "red.png") == ("a red wall", {"year": 2020, "rating": 5}, whole.name)


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("metadata.csv", "file_name,caption,year\nb/red.png,caf\xe9,1\n".encode("latin-1"), 6),
        ("metadata.csv", b"name,year\nb/red.png,1\n", 6),
        ("metadata.jsonl", b'{"file_name": "b/red.png", "year": 1\n', 6),
        ("b/red.json", b'{"n": ' + b"9" * 5000 + b"}", 1),
        ("b/red.png.txt", b"caf\xe9", 1),
    ],
    ids=["table in Latin-1", "table without names", "table with a lost line", "huge number", "caption in Latin-1"],
)
def test_a_sidecar_that_cannot_be_read_takes_nothing_away(
    photos: Path, collection: ImageCollection, name: str, content: bytes, kept: int
) -> None:
    ingest(FolderSource(photos), collection)
    paths = [photos / ("a" if n % 2 else "b") / f"{colour}.png" for n, colour in enumerate(COLOURS)]
    before = [described(collection, path) for path in paths]
    (photos / "metadata.csv").unlink()
    (photos / name).write_bytes(content)
    for changed in (False, True, False):
        if changed:
            write_image(paths[0], "white", (30, 30))
        report = ingest(FolderSource(photos), collection)
        assert [(row.uri, row.reason) for row in report.quarantined] == [(uri(photos / name), "bad metadata")]
        assert report.updated == changed
        assert [described(collection, path) for path in paths[:kept]] == before[:kept]
        assert [described(collection, path)[:2] for path in paths[kept:]] == [(None, {})] * (6 - kept)
    assert collection.search("white", limit=1)[0].uri == uri(paths[0])
    (photos / name).unlink()
    ingest(FolderSource(photos), collection)
    assert described(collection, paths[0])[:2] == (None, {})


def test_a_sidecar_that_cannot_be_read_keeps_a_new_image_from_nothing_else(
    photos: Path, collection: ImageCollection
) -> None:
    (photos / "b" / "red.json").write_text("{")
    assert counts(ingest(FolderSource(photos), collection)) == (6, 0, 0, 0, 1)
    assert described(collection, photos / "b" / "red.png")[:2] == ("a red wall", {"year": 2020})


@pytest.mark.parametrize("workers", [1, 4])
def test_the_type_of_a_field_is_inferred_from_all_images_planned_together(
    tmp_path: Path, memory_client: QdrantBase, workers: int
) -> None:
    folder, lines = tmp_path / "many", ["file_name,note"]
    for number in range(40):
        write_image(folder / f"{number:02}.png", (number, 5, 5), (8, 8))
        lines.append(f"{number:02}.png,{'2024-05-01' if number < 32 else 'unknown'}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    (folder / "05.json").write_text('{"note": 7}')
    collection = ImageCollection("photos", FakeEmbedder(), memory_client)
    report = ingest(FolderSource(folder), collection, batch_size=8, workers=workers)
    assert counts(report) == (40, 0, 0, 0, 0)
    assert [(row.field, row.count, row.uri) for row in report.fields_left_out] == [("note", 1, uri(folder / "05.png"))]
    assert collection.fields["metadata.note"] == "keyword"
    again = ingest(FolderSource(folder), collection)
    assert counts(again) == (0, 0, 0, 40, 0)
    assert again.fields_left_out == report.fields_left_out


def test_an_image_deleted_between_plan_and_write_is_stored_anew(photos: Path, client: QdrantBase) -> None:
    collection = ImageCollection("photos", FakeEmbedder(), client)
    ingest(FolderSource(photos), collection)
    table = photos / "metadata.csv"
    table.write_text(table.read_text().replace("wall", "door"))
    (photos / "a" / "green.txt").write_text("a lawn")
    write_payloads, deleted = collection.writer.write_payloads, [photos / "b" / "red.png", photos / "a" / "green.png"]

    def late(records: Any) -> None:
        while deleted:
            collection.delete(uris=[deleted.pop()])
        write_payloads(records)

    collection.writer.write_payloads = late  # type: ignore[method-assign]  # another process, at the worst moment
    report = ingest(FolderSource(photos), collection)
    assert counts(report) == (2, 0, 4, 0, 0)
    assert collection.count() == 6
    assert described(collection, photos / "b" / "red.png")[:2] == ("a red door", {"year": 2020})
    assert collection.search("green", limit=1)[0].caption == "a lawn"


def test_an_image_deleted_from_store_and_folder_between_plan_and_write_is_quarantined(
    photos: Path, collection: ImageCollection
) -> None:
    ingest(FolderSource(photos), collection)
    table, red = photos / "metadata.csv", photos / "b" / "red.png"
    table.write_text(table.read_text().replace("wall", "door"))
    write_payloads = collection.writer.write_payloads

    def late(records: Any) -> None:
        if red.exists():
            collection.delete(uris=[red])
            red.unlink()
        write_payloads(records)

    collection.writer.write_payloads = late  # type: ignore[method-assign]  # as above
    report = ingest(FolderSource(photos), collection)
    assert counts(report) == (0, 0, 5, 0, 1)
    assert (report.quarantined[0].uri, report.quarantined[0].reason) == (uri(red), "unreadable")


def test_a_collection_deleted_between_plan_and_write_is_filled_anew(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    table, write_payloads = photos / "metadata.csv", collection.writer.write_payloads
    table.write_text(table.read_text().replace("wall", "door"))

    def late(records: Any) -> None:
        collection.client.delete_collection("photos")
        write_payloads(records)

    collection.writer.write_payloads = late  # type: ignore[method-assign]  # as above
    assert counts(ingest(FolderSource(photos), collection)) == (6, 0, 0, 0, 0)
    assert collection.count("caption ~ 'door'") == 6


def test_mtimes_and_metadata_with_fractions_survive_the_store(tmp_path: Path, edge_collection: ImageCollection) -> None:
    """The embedded store changes the last bit of some floats; that must not look like a change."""
    folder = tmp_path / "many"
    lines = ["file_name,weight"]
    for number in range(60):
        path = write_image(folder / f"{number}.png", (number, 0, 0), (8, 8))
        os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number * 977_777_777))
        lines.append(f"{number}.png,{0.1 + number / 7}")
    (folder / "metadata.csv").write_text("\n".join(lines))
    ingest(FolderSource(folder), edge_collection)
    assert counts(ingest(FolderSource(folder), edge_collection)) == (0, 0, 0, 60, 0)


def test_bad_images_are_quarantined_with_a_reason_and_the_others_stored(
    photos: Path, collection: ImageCollection
) -> None:
    (photos / "a" / "empty.jpg").write_bytes(b"")
    (photos / "a" / "page.jpg").write_bytes(b"<!doctype html><p>not found")
    (photos / "a" / "cut.png").write_bytes((photos / "b" / "red.png").read_bytes()[:60])
    write_image(photos / "b" / "huge.png", "red", (300, 300))
    report = ingest(FolderSource(photos), collection, batch_size=2, limits=Limits(max_pixels=50_000))
    assert counts(report) == (6, 0, 0, 0, 4)
    assert [(row.uri.rpartition("/")[2], row.reason) for row in report.quarantined] == [
        ("cut.png", "truncated"),
        ("empty.jpg", "empty"),
        ("page.jpg", "not an image"),
        ("huge.png", "too large"),
    ]
    assert "300 x 300" in report.quarantined[-1].detail
    again = ingest(FolderSource(photos), collection, limits=Limits(max_pixels=50_000))
    assert counts(again) == (0, 0, 0, 6, 4)
    assert again.quarantined == report.quarantined


def test_a_broken_sidecar_row_is_quarantined_with_file_and_line(photos: Path, collection: ImageCollection) -> None:
    (photos / "b" / "metadata.jsonl").write_text('{"file_name": "red.png", "album": "x"}\n{oops\n')
    report = ingest(FolderSource(photos), collection)
    assert counts(report) == (6, 0, 0, 0, 1)
    assert report.quarantined[0].uri == uri(photos / "b" / "metadata.jsonl")
    assert report.quarantined[0].reason == "bad metadata"
    assert "b/metadata.jsonl: line 2: not JSON" in report.quarantined[0].detail
    assert not report.interrupted


def test_metadata_that_does_not_fit_its_field_is_left_out_and_told(photos: Path, collection: ImageCollection) -> None:
    """Also where the field is inferred from the same batch that has the misfit."""
    (photos / "metadata.csv").unlink()
    for colour, year in (("blue", "2020"), ("cyan", "2024"), ("red", '"long ago"')):
        (photos / "b" / f"{colour}.json").write_text(f'{{"year": {year}}}')
    for _ in range(2):
        report = ingest(FolderSource(photos), collection, workers=1)
        assert (report.quarantined, collection.count()) == ((), 6)
        assert [(row.field, row.uri) for row in report.fields_left_out] == [("year", uri(photos / "b" / "red.png"))]


def test_a_vector_that_is_not_finite_quarantines_that_image_only(photos: Path, memory_client: QdrantBase) -> None:
    class Broken(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            vectors = super().embed_pixels(pixels)
            vectors[(pixels.reshape(len(pixels), -1, 3).mean(axis=1) == (255, 0, 0)).all(axis=1)] = np.nan
            return vectors

    report = ingest(FolderSource(photos), ImageCollection("photos", Broken(), memory_client))
    assert counts(report) == (5, 0, 0, 0, 1)
    assert (report.quarantined[0].uri, report.quarantined[0].reason) == (uri(photos / "b" / "red.png"), "bad vector")


def test_a_source_that_raises_anything_at_all_quarantines_that_image_only(
    photos: Path, collection: ImageCollection
) -> None:
    class Flaky(CountingSource):
        def read(self, item: SourceObject, *, limits: Limits) -> bytes:
            if item.name == "b/red.png":
                raise ZeroDivisionError("a bug")
            return super().read(item, limits=limits)

    report = ingest(Flaky(FolderSource(photos)), collection)
    assert counts(report) == (5, 0, 0, 0, 1)
    assert (report.quarantined[0].reason, report.quarantined[0].detail) == ("error", "ZeroDivisionError: a bug")


def test_a_folder_that_cannot_be_listed_is_quarantined(photos: Path, collection: ImageCollection) -> None:
    class Locked(CountingSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            yield from super().pages(folders)
            yield Page(problems=[Problem(f"{self.name}/locked", "unreadable", "Permission denied", hides_objects=True)])

    report = ingest(Locked(FolderSource(photos)), collection)
    assert counts(report) == (6, 0, 0, 0, 1)
    assert report.quarantined[0].uri == f"{uri(photos)}/locked"


def test_a_missing_source_raises(tmp_path: Path, collection: ImageCollection) -> None:
    with pytest.raises(SourceError, match="not found"):
        ingest(FolderSource(tmp_path / "none"), collection)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}])
def test_wrong_arguments_are_refused(photos: Path, collection: ImageCollection, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ingest(FolderSource(photos), collection, **wrong)


def test_an_etag_decides_where_a_source_has_them(photos: Path, collection: ImageCollection) -> None:
    tags = {"b/red.png": "one"}

    class Bucket(CountingSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            for page in super().pages(folders):
                yield Page([replace(i, mtime=None, etag=tags.get(i.name, "same")) for i in page.objects], page.problems)

    assert counts(ingest(Bucket(FolderSource(photos)), collection)) == (6, 0, 0, 0, 0)
    assert counts(ingest(Bucket(FolderSource(photos)), collection)) == (0, 0, 0, 6, 0)
    tags["b/red.png"] = "two"
    source = Bucket(FolderSource(photos))
    assert counts(ingest(source, collection)) == (0, 0, 1, 5, 0)
    assert source.images_read == ["b/red.png"]


def test_a_store_that_stops_answering_ends_the_run_and_another_run_goes_on(
    photos: Path, collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = collection.writer.write, []

    def failing(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 2:
            raise StoreUnavailable("Qdrant at http://localhost:6333 does not answer")
        write(*arguments)

    monkeypatch.setattr(collection.writer, "write", failing)
    with pytest.raises(StoreUnavailable, match="does not answer; 2 images of this run are stored, run it again"):
        ingest(FolderSource(photos), collection, batch_size=1, workers=1)
    monkeypatch.setattr(collection.writer, "write", write)
    assert counts(ingest(FolderSource(photos), collection)) == (4, 0, 0, 2, 0)


def test_a_store_that_does_not_answer_at_all_is_an_error_and_leaves_no_thread(
    photos: Path, collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(uris: object) -> dict[str, Any]:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(collection.writer, "read_payloads", failing)
    with pytest.raises(StoreUnavailable, match="no answer; 0 images"):
        ingest(FolderSource(photos), collection)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ingest-")]


def test_a_failing_model_ends_the_run_with_its_error(photos: Path, memory_client: QdrantBase) -> None:
    class Failing(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            raise RuntimeError("the model is gone")

    with pytest.raises(RuntimeError, match="the model is gone"):
        ingest(FolderSource(photos), ImageCollection("photos", Failing(), memory_client))


def test_the_stop_event_finishes_the_batches_in_hand(tmp_path: Path, memory_client: QdrantBase) -> None:
    folder, stop = tmp_path / "many", threading.Event()
    for number in range(40):
        write_image(folder / f"{number:02}.png", (number, 5, 5), (8, 8))

    class Stopping(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            stop.set()
            return super().embed_pixels(pixels)

    collection = ImageCollection("photos", Stopping(), memory_client)
    report = ingest(FolderSource(folder), collection, batch_size=5, workers=1, stop=stop)
    assert report.interrupted
    assert report.added == collection.count()
    assert report.added in (5, 10)  # two batches may be in hand
    rest = ingest(FolderSource(folder), collection, batch_size=5)
    assert counts(rest) == (40 - report.added, 0, 0, report.added, 0)
    assert not rest.interrupted


def test_a_stop_that_comes_before_the_start_stores_nothing(photos: Path, collection: ImageCollection) -> None:
    stop = threading.Event()
    stop.set()
    report = ingest(FolderSource(photos), collection, stop=stop)
    assert report.interrupted
    assert report.added == 0


def test_a_stop_that_comes_after_all_was_done_interrupted_nothing(photos: Path, collection: ImageCollection) -> None:
    stop = threading.Event()

    def when_done(event: Progress) -> None:
        if event.added == 6:
            stop.set()

    assert not ingest(FolderSource(photos), collection, progress=when_done, stop=stop).interrupted


def test_progress_is_told_on_the_calling_thread_and_ends_complete(photos: Path, collection: ImageCollection) -> None:
    (photos / "a" / "empty.jpg").write_bytes(b"")
    events: list[Progress] = []
    threads: set[int] = set()

    def record(event: Progress) -> None:
        events.append(event)
        threads.add(threading.get_ident())

    report = ingest(FolderSource(photos), collection, progress=record)
    assert threads == {threading.get_ident()}
    last = events[-1]
    assert (last.listed, last.added, last.quarantined, last.done, last.listing) == (7, 6, 1, 7, False)
    assert last.seconds == pytest.approx(report.seconds, abs=0.5)
    assert all(held <= size for event in events for held, size in event.queues.values())


@pytest.mark.parametrize("number", [1, 4])
def test_an_error_in_the_progress_callback_ends_the_run_and_its_threads(
    tmp_path: Path, memory_client: QdrantBase, number: int
) -> None:
    class Slow(FakeEmbedder):
        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            time.sleep(0.8)  # longer than four events
            return super().embed_pixels(pixels)

    for index in range(8):
        write_image(tmp_path / "many" / f"{index:02}.png", (index, 5, 5), (8, 8))
    events: list[Progress] = []

    def failing(event: Progress) -> None:
        events.append(event)
        if len(events) >= number:
            raise KeyError("drawing")

    collection = ImageCollection("photos", Slow(), memory_client)
    with pytest.raises(KeyError, match="drawing"):
        ingest(FolderSource(tmp_path / "many"), collection, batch_size=4, workers=2, progress=failing)
    assert len(events) == number
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ingest-")]


def test_ctrl_c_while_the_threads_start_leaves_none(
    photos: Path, collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "ingest-decode-1":
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    assert ingest(FolderSource(photos), collection, workers=4).interrupted
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ingest-")]


def test_the_report_tells_the_seconds_of_every_stage(photos: Path, collection: ImageCollection) -> None:
    report = ingest(FolderSource(photos), collection)
    assert set(report.stages) == {"plan", "read", "decode", "embed", "write"}
    assert all(stage.seconds > 0 and 0 < stage.share <= 1 for stage in report.stages.values())
    assert report.bottleneck in report.stages
    assert report.images_per_second == pytest.approx(6 / report.seconds)


def test_listing_and_reading_stay_a_bounded_number_of_batches_ahead(tmp_path: Path, memory_client: QdrantBase) -> None:
    folder = tmp_path / "many"
    for number in range(120):
        write_image(folder / f"{number:03}.png", (number, 5, 5), (8, 8))
    source = CountingSource(FolderSource(folder))
    ahead: list[int] = []

    class Slow(FakeEmbedder):
        done = 0

        def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
            time.sleep(0.02)
            ahead.append(len(source.images_read) - self.done)
            self.done += len(pixels)
            return super().embed_pixels(pixels)

    report = ingest(source, ImageCollection("photos", Slow(), memory_client), batch_size=3, workers=2)
    assert report.added == 120
    # Two waiting for each reader and in its hand, two decoded, four batches before, in and behind the embedder.
    assert max(ahead) <= 3 * source.reads_at_once + 2 + 7 * 3


def test_many_workers_and_one_give_the_same_collection(photos: Path, edge_client: EdgeClient) -> None:
    one, many = (ImageCollection(name, FakeEmbedder(), edge_client) for name in ("one", "many"))
    ingest(FolderSource(photos), one, batch_size=100, workers=1)
    ingest(FolderSource(photos), many, batch_size=1, workers=8)

    def contents(collection: ImageCollection) -> Any:
        hits = collection.search("red wall")
        return {hit.uri: (hit.score, {**hit.payload, "ingested_at": None}) for hit in hits}

    assert contents(one) == contents(many)
    assert len(contents(one)) == 6


class CountingSource:
    """Passes a source on and remembers which images were read."""

    def __init__(self, source: FolderSource) -> None:
        self._source = source
        self.name = source.name
        self.reads_at_once = source.reads_at_once
        self.images_read: list[str] = []

    def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
        return self._source.pages(folders)

    def look(self, item: SourceObject) -> SourceObject:
        return item

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        self.images_read.append(item.name)
        return self._source.read(item, limits=limits)
