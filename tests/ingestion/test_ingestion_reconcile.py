"""A collection follows its source: what is renamed keeps its vector, what is gone is deleted, nothing else ever is."""

from __future__ import annotations

import os
import shutil
import tarfile
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pytest
from counting import CountingFolder
from fakes import FakeEmbedder, write_image
from PIL import Image
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.collection.points import dense_vector
from clip_qdrant.errors import ConfigError, SourceError
from clip_qdrant.images.load import Limits, load_image
from clip_qdrant.records import ImageRecord, SourceInfo
from clip_qdrant.uris import to_uri
from clip_qdrant_ingestion import FolderSource, Page, Problem, Progress, ShardSource, SourceObject, ingest
from clip_qdrant_ingestion.packed_texts import TextSet
from clip_qdrant_ingestion.run import missing as missing
from clip_qdrant_ingestion.sources.share import Share


@pytest.fixture
def embedder() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
def collection(memory_client: QdrantBase, embedder: FakeEmbedder) -> ImageCollection:
    return ImageCollection("photos", embedder, memory_client)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve images, half of them in a folder below."""
    return filled(tmp_path / "photos", 12)


def filled(folder: Path, number: int) -> Path:
    for index in range(number):
        write_image(
            folder / ("below" if index % 2 else "") / f"{index:02}.png", (20 * (index % 12), 5 + index // 12, 5)
        )
    return folder


def uri(path: Path) -> str:
    return to_uri(path)


def uris(collection: ImageCollection) -> set[str]:
    return {payload["uri"] for payload in collection.writer.scan(parts=["uri"])}


def listed(folder: Path) -> set[str]:
    return {uri(path) for path in folder.rglob("*.png")}


# What is renamed


def test_a_renamed_image_keeps_its_vector_and_takes_what_is_said_of_its_new_name(
    photos: Path, client: QdrantBase, embedder: FakeEmbedder
) -> None:
    collection = ImageCollection("photos", embedder, client)
    exif = Image.Exif()
    exif[0x0110] = "Box"
    exif.get_ifd(0x8769).update({0x9003: "2021:07:04 18:30:00", 0x9011: "+02:00"})
    Image.new("RGB", (40, 30), "white").save(photos / "old.jpg", exif=exif)
    (photos / "old.json").write_text('{"caption": "old", "shelf": 1}')
    (photos / "new.json").write_text('{"caption": "new", "row": 2}')
    ingest(FolderSource(photos), collection)
    before = collection.get(photos / "old.jpg")
    assert before is not None
    assert before.metadata == {"camera": "Box", "shelf": 1}
    embedder.image_calls.clear()
    (photos / "old.jpg").rename(photos / "new.jpg")
    report = ingest(FolderSource(photos), collection, delete=True)
    assert (report.renamed, report.added, report.skipped, report.gone, report.deleted) == (1, 0, 12, 1, 1)
    assert embedder.image_calls == []
    after = collection.get(photos / "new.jpg")
    assert after is not None
    assert (after.caption, after.metadata) == ("new", {"camera": "Box", "row": 2})
    assert after.payload["taken_at"] == "2021-07-04T18:30:00+02:00"
    assert after.payload["image"] == before.payload["image"]
    assert after.payload["source"]["name"] == FolderSource(photos).name
    assert (collection.get(photos / "old.jpg"), collection.count()) == (None, 13)
    assert collection.search("white", limit=1)[0].uri == uri(photos / "new.jpg")
    assert ingest(FolderSource(photos), collection).skipped == 13


def test_a_copy_of_a_stored_image_is_stored_beside_it_without_being_embedded(
    photos: Path, collection: ImageCollection, embedder: FakeEmbedder
) -> None:
    ingest(FolderSource(photos), collection)
    embedder.image_calls.clear()
    for name in ("copy.png", "again.png"):
        (photos / name).write_bytes((photos / "00.png").read_bytes())
    report = ingest(FolderSource(photos), collection, delete=True)
    assert (report.copied, report.renamed, report.skipped, report.gone) == (2, 0, 12, 0)
    assert embedder.image_calls == []
    assert uris(collection) == listed(photos)


def test_copies_in_a_first_run_are_counted_as_copies(photos: Path, collection: ImageCollection) -> None:
    for name in ("copy.png", "again.png"):
        (photos / name).write_bytes((photos / "00.png").read_bytes())
    report = ingest(FolderSource(photos), collection)
    assert (report.added, report.copied, report.renamed, collection.count()) == (12, 2, 0, 14)


def test_two_images_that_change_places_keep_their_vectors_each_with_its_name(
    photos: Path, collection: ImageCollection, embedder: FakeEmbedder
) -> None:
    write_image(photos / "00.png", "red", (20, 20))
    write_image(photos / "02.png", "blue", (30, 30))
    ingest(FolderSource(photos), collection)
    embedder.image_calls.clear()
    (photos / "00.png").rename(photos / "aside")
    (photos / "02.png").rename(photos / "00.png")
    (photos / "aside").rename(photos / "02.png")
    report = ingest(FolderSource(photos), collection, delete=True, workers=1)
    assert (report.updated, report.skipped, report.gone) == (2, 10, 0)
    assert collection.search("red", limit=1)[0].uri == uri(photos / "02.png")
    assert collection.search("blue", limit=1)[0].uri == uri(photos / "00.png")


def test_a_renamed_folder_is_renamed_with_all_that_is_in_it(
    photos: Path, collection: ImageCollection, embedder: FakeEmbedder
) -> None:
    ingest(FolderSource(photos), collection)
    embedder.image_calls.clear()
    (photos / "below").rename(photos / "elsewhere")
    kept = ingest(FolderSource(photos), collection)
    assert (kept.renamed, kept.gone, kept.deleted, collection.count()) == (6, 6, 0, 18)
    report = ingest(FolderSource(photos), collection, delete=True, max_delete=0)
    assert (report.renamed, report.skipped, report.deleted, embedder.image_calls) == (0, 12, 6, [])
    assert uris(collection) == listed(photos)


# What has moved, from wherever it was ingested


def test_a_source_that_was_renamed_leaves_no_old_names(
    tmp_path: Path, photos: Path, collection: ImageCollection, embedder: FakeEmbedder
) -> None:
    ingest(FolderSource(photos), collection)
    embedder.image_calls.clear()
    moved = photos.rename(tmp_path / "pictures")
    report = ingest(FolderSource(moved), collection, delete=True)
    assert (report.renamed, report.gone, report.deleted, report.refused) == (12, 12, 12, None)
    assert (uris(collection), embedder.image_calls) == (listed(moved), [])


def test_a_source_that_was_renamed_can_be_tidied_up_later(
    tmp_path: Path, photos: Path, collection: ImageCollection
) -> None:
    ingest(FolderSource(photos), collection)
    moved = photos.rename(tmp_path / "pictures")
    report = ingest(FolderSource(moved), collection)
    assert (report.renamed, report.gone, report.deleted, collection.count()) == (12, 12, 0, 24)
    report = ingest(FolderSource(moved), collection, delete=True)
    assert (report.skipped, report.gone, report.deleted) == (12, 12, 12)
    assert uris(collection) == listed(moved)


@pytest.mark.parametrize("shards", [1, 3])
def test_an_image_moves_between_sources_folders_and_names_of_one_folder(
    tmp_path: Path, photos: Path, collection: ImageCollection, shards: int
) -> None:
    link = tmp_path / "link"
    link.symlink_to(photos)
    ingest(FolderSource(link / "below"), collection)  # by another path
    ingest(FolderSource(photos / "below"), collection)  # a folder of what comes next
    ingest(FolderSource(photos), collection)
    assert collection.count() == 18
    (photos / "below" / "01.png").rename(photos / "moved.png")
    for index in range(shards):
        source = Share(FolderSource(photos), index, shards)
        ingest(source, collection, delete=True, max_delete=0, owns=source.owns)
    through_link = {uri(path) for path in (link / "below").iterdir()}
    assert uris(collection) == listed(photos) | through_link


def test_what_is_still_where_it_was_is_a_copy(tmp_path: Path, photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    copy = tmp_path / "copy"
    shutil.copytree(photos, copy)
    report = ingest(FolderSource(copy), collection, delete=True)
    assert (report.copied, report.renamed, report.gone, report.deleted, collection.count()) == (12, 0, 0, 0, 24)


def test_what_other_machines_may_have_is_not_taken_for_moved(photos: Path, collection: ImageCollection) -> None:
    elsewhere = "file:///no-folder-of-this-machine/00.png"
    source = SourceInfo("file:///no-folder-of-this-machine", size=1, mtime=1.0)
    image = load_image(photos / "00.png").info
    record = ImageRecord(elsewhere, image=image, source=source)
    collection.writer.write([record], collection.embedder.embed_images([photos / "00.png"]))
    report = ingest(FolderSource(photos), collection, delete=True, max_delete=1)
    assert (report.copied, report.gone, collection.count()) == (1, 0, 13)


def test_an_archive_that_moved_takes_its_images_along(
    tmp_path: Path, photos: Path, collection: ImageCollection
) -> None:
    old = tmp_path / "old.tar"
    with tarfile.open(old, "w") as archive:
        for path in sorted(photos.rglob("*.png")):
            archive.add(path, path.name)
    ingest(ShardSource(old), collection)
    report = ingest(ShardSource(old.rename(tmp_path / "new.tar")), collection, delete=True)
    assert (report.renamed, report.deleted, collection.count()) == (12, 12, 12)


def test_images_that_were_added_in_python_stay(tmp_path: Path, photos: Path, collection: ImageCollection) -> None:
    added = write_image(tmp_path / "added.png", (7, 7, 7))
    collection.add([added], captions=["mine"])
    added.rename(photos / "moved.png")
    report = ingest(FolderSource(photos), collection, delete=True, max_delete=1)
    assert (report.renamed, report.deleted, collection.count()) == (1, 0, 14)


@pytest.mark.parametrize("number", [3, 200_000])
def test_what_has_moved_is_found_among_many_images_of_other_sources(
    tmp_path: Path, photos: Path, collection: ImageCollection, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(missing, "_FEW_OTHERS", number)  # with 3 they are asked for by hash
    ingest(FolderSource(filled(tmp_path / "other", 14)), collection)
    (tmp_path / "other" / "12.png").rename(photos / "12.png")
    report = ingest(FolderSource(photos), collection, delete=True)
    assert (report.copied, report.renamed, report.deleted) == (12, 1, 1)
    assert uris(collection) == listed(photos) | listed(tmp_path / "other")


# What is gone


def test_what_is_gone_stays_until_deletion_is_asked_for(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    (photos / "00.png").unlink()
    report = ingest(FolderSource(photos), collection)
    assert (report.gone, report.deleted, collection.count()) == (1, 0, 12)
    report = ingest(FolderSource(photos), collection, delete=True)
    assert (report.gone, report.deleted, report.refused, uris(collection)) == (1, 1, None, listed(photos))


@pytest.mark.parametrize(
    ("number", "max_delete", "deleted"),
    [(1, 0.1, 1), (2, 0.1, 0), (2, 0.17, 2), (3, 0.24, 0), (3, 0.25, 3), (1, 0.0, 0), (12, 1.0, 0), (11, 1.0, 11)],
)
def test_no_more_is_deleted_than_was_agreed_to(
    photos: Path,
    collection: ImageCollection,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    max_delete: float,
    deleted: int,
) -> None:
    monkeypatch.setattr(missing, "SMALL", 0)
    ingest(FolderSource(photos), collection)
    for path in sorted(photos.rglob("*.png"))[:number]:
        path.unlink()
    report = ingest(FolderSource(photos), collection, delete=True, max_delete=max_delete)
    assert (report.gone, report.deleted, collection.count()) == (number, deleted, 12 - deleted)
    assert (report.refused is None) == bool(deleted)
    if number == 12:
        assert report.refused == "the listing is empty, so none of the 12 stored images is deleted"
    elif report.refused:
        assert "--max-delete" in report.refused
        assert f"{number} stored images" in report.refused


@pytest.mark.parametrize(("number", "max_delete", "deleted"), [(2, 0.1, 2), (6, 0.1, 6), (7, 0.1, 0), (1, 0.0, 0)])
def test_of_a_small_collection_a_few_images_may_be_deleted_up_to_a_half(
    photos: Path, collection: ImageCollection, number: int, max_delete: float, deleted: int
) -> None:
    ingest(FolderSource(photos), collection)
    for path in sorted(photos.rglob("*.png"))[:number]:
        path.unlink()
    report = ingest(FolderSource(photos), collection, delete=True, max_delete=max_delete)
    assert (report.gone, report.deleted) == (number, deleted)


def test_of_a_large_collection_no_more_than_ten_images_or_the_share(
    tmp_path: Path, collection: ImageCollection
) -> None:
    folder = filled(tmp_path / "many", 40)
    ingest(FolderSource(folder), collection)
    for number in range(11):
        (folder / ("below" if number % 2 else "") / f"{number:02}.png").unlink()
    assert ingest(FolderSource(folder), collection, delete=True).refused is not None
    write_image(folder / "00.png", (0, 5, 5))
    assert ingest(FolderSource(folder), collection, delete=True).deleted == 10


def test_a_share_that_floats_cannot_hold_is_not_one_image_less(
    tmp_path: Path, collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "SMALL", 0)
    (tmp_path / "other").mkdir()
    write_image(tmp_path / "other" / "kept.png", "white")
    collection.add([write_image(tmp_path / f"{n}.png", (n, 9, 9), (4, 4)) for n in range(71)])
    folder = FolderSource(filled(tmp_path / "many", 5))
    ingest(folder, collection)  # and one more, 77 in all
    assert int(5 / 77 * 77) == 4
    elsewhere = FolderSource(tmp_path / "other", name=folder.name)
    report = ingest(elsewhere, collection, delete=True, max_delete=5 / 77)
    assert (report.gone, report.deleted) == (5, 5)


@pytest.mark.parametrize("max_delete", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(photos: Path, collection: ImageCollection, max_delete: float) -> None:
    with pytest.raises(ConfigError, match="max_delete is a share"):
        ingest(FolderSource(photos), collection, delete=True, max_delete=max_delete)


def test_images_of_others_stay(tmp_path: Path, photos: Path, collection: ImageCollection) -> None:
    added = write_image(photos / "added.png", "red")
    collection.add([added])
    other = tmp_path / "other"
    for number in range(3):
        write_image(other / f"{number:02}.png", (20 * number, 99, 5))
    ingest(FolderSource(other), collection)
    ingest(FolderSource(photos, exclude=["added.png"]), collection)
    added.unlink()
    (other / "00.png").unlink()
    report = ingest(FolderSource(photos), collection, delete=True, max_delete=1)
    assert (report.gone, report.deleted, collection.count()) == (0, 0, 16)


@pytest.mark.parametrize("first", ["whole", "below"])
@pytest.mark.parametrize("last", ["whole", "below"])
def test_an_image_that_lies_in_two_sources_goes_with_either_of_them(
    photos: Path, collection: ImageCollection, first: str, last: str
) -> None:
    sources = {"whole": FolderSource(photos), "below": FolderSource(photos / "below")}
    ingest(sources.pop(first), collection)
    for source in sources.values():
        ingest(source, collection)
    (photos / "below" / "01.png").unlink()
    report = ingest(FolderSource(photos / ("below" if last == "below" else "")), collection, delete=True)
    assert (report.gone, report.deleted) == (1, 1)
    assert uris(collection) == listed(photos)


def test_what_a_run_leaves_out_stays_with_the_source_it_came_from(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos / "below"), collection)
    report = ingest(FolderSource(photos, exclude=["below"]), collection, delete=True, max_delete=1)
    assert (report.listed, report.gone, collection.count()) == (6, 0, 12)


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(
    photos: Path, collection: ImageCollection, caplog: pytest.LogCaptureFixture
) -> None:
    class Locked(FolderSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            yield Page(problems=[Problem(uri(photos / "below"), "unreadable", "no permission", hides_objects=True)])
            for page in super().pages(folders):
                yield Page([item for item in page.objects if not item.name.startswith("below/")], page.problems)

    ingest(FolderSource(photos), collection)
    (photos / "00.png").unlink()
    for removed in (None, [uri(photos / "00.png"), uri(photos / "below" / "01.png")]):
        folders = None if removed is None else ["", "below"]
        report = ingest(Locked(photos), collection, delete=True, max_delete=1, folders=folders, removed=removed or ())
        assert (report.gone, report.deleted, collection.count()) == (None, 0, 12)
        assert [row.detail for row in report.quarantined] == ["no permission"]
        assert "nothing is deleted, because a part of the source could not be listed" in caplog.text
        caplog.clear()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_without_permission_is_not_taken_for_empty(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    (photos / "below").chmod(0)
    try:
        report = ingest(FolderSource(photos), collection, delete=True, max_delete=1)
    finally:
        (photos / "below").chmod(0o700)
    assert (report.skipped, report.gone, collection.count()) == (6, None, 12)


def test_a_source_that_breaks_off_deletes_nothing(photos: Path, collection: ImageCollection) -> None:
    class Breaking(FolderSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            yield Page(next(super().pages(folders)).objects[:3])
            raise SourceError("the bucket does not answer", transient=True)

    ingest(FolderSource(photos), collection)
    with pytest.raises(SourceError, match="does not answer"):
        ingest(Breaking(photos), collection, delete=True, max_delete=1)
    for path in photos.rglob("*.png"):
        path.unlink()
    (photos / "below").rmdir()
    photos.rmdir()
    with pytest.raises(SourceError, match="not found"):
        ingest(FolderSource(photos), collection, delete=True, max_delete=1)
    assert collection.count() == 12


def test_a_run_that_is_interrupted_deletes_nothing(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    (photos / "00.png").unlink()
    write_image(photos / "new.png", "white")
    stop = threading.Event()

    class Stopping(FolderSource):
        def read(self, item: SourceObject, *, limits: Limits) -> bytes:
            stop.set()
            return super().read(item, limits=limits)

    report = ingest(Stopping(photos), collection, delete=True, stop=stop)
    assert (report.interrupted, report.gone, report.deleted, collection.count()) == (True, None, 0, 12)
    assert ingest(FolderSource(photos), collection, delete=True).deleted == 1


def test_a_stop_while_the_source_is_listed_deletes_nothing(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    stop = threading.Event()

    class Paged(FolderSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            for page in super().pages(folders):
                yield Page(page.objects[:3])
                stop.set()
                yield Page(page.objects[3:])

    report = ingest(Paged(photos), collection, delete=True, max_delete=1, stop=stop)
    assert (report.interrupted, report.deleted, collection.count()) == (True, 0, 12)


def test_nothing_is_deleted_before_all_else_is_stored(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    (photos / "00.png").rename(photos / "99.png")
    held: list[int] = []

    def count(event: Progress) -> None:
        held.append(collection.count())

    ingest(FolderSource(photos), collection, delete=True, progress=count)
    assert min(held) >= 12
    assert uris(collection) == listed(photos)


# Parts of a source


def test_a_part_whose_last_images_are_gone_deletes_them(photos: Path, collection: ImageCollection) -> None:
    """The listing is not empty: it has the images of the other parts."""
    part, rest = (Share(FolderSource(photos), index, 2) for index in range(2))
    for each in (part, rest):
        ingest(each, collection, owns=each.owns)
    own = [path for path in photos.rglob("*.png") if part.owns(uri(path))]
    assert 0 < len(own) < 12
    for path in own:
        path.unlink()
    report = ingest(part, collection, owns=part.owns, delete=True, max_delete=1)
    assert (report.listed, report.gone, report.deleted) == (0, len(own), len(own))
    assert uris(collection) == listed(photos)
    for path in photos.rglob("*.png"):
        path.unlink()
    report = ingest(rest, collection, owns=rest.owns, delete=True, max_delete=1)
    assert (report.deleted, report.refused is None) == (0, False)


def test_each_part_deletes_its_own(photos: Path, collection: ImageCollection) -> None:
    filled(photos, 48)  # wherever they lie, each part has some of the half that stays
    parts = [Share(FolderSource(photos), index, 2) for index in range(2)]
    for part in parts:
        ingest(part, collection, owns=part.owns)
    assert collection.count() == 48
    gone = {uri(path) for path in (photos / "below").iterdir()}
    for path in (photos / "below").iterdir():
        path.unlink()
    for part in parts:
        before = uris(collection)
        report = ingest(part, collection, owns=part.owns, delete=True, max_delete=1)
        assert before - uris(collection) == {one for one in gone if part.owns(one)}
        assert report.deleted == len(before) - collection.count()
    assert uris(collection) == listed(photos)


# What an event says


def test_of_what_is_said_to_be_removed_only_what_is_gone_is_deleted(photos: Path, collection: ImageCollection) -> None:
    source = CountingFolder(photos)
    ingest(source, collection)
    for name in ("00.png", "02.png", "below/01.png"):
        (photos / name).unlink()
    source.images_read.clear()
    removed = [uri(photos / name) for name in ("00.png", "04.png", "never.png")]
    report = ingest(source, collection, delete=True, folders=[""], removed=removed)
    assert (report.listed, report.skipped, report.gone, report.deleted, source.images_read) == (4, 4, 1, 1, [])
    assert collection.count() == 11
    assert collection.get(photos / "04.png") is not None
    assert ingest(source, collection, delete=True, max_delete=0.2).deleted == 2


def test_what_is_removed_in_a_folder_that_is_gone_too_is_deleted(photos: Path, collection: ImageCollection) -> None:
    ingest(FolderSource(photos), collection)
    removed = [uri(path) for path in (photos / "below").iterdir()]
    for path in (photos / "below").iterdir():
        path.unlink()
    (photos / "below").rmdir()
    report = ingest(FolderSource(photos), collection, delete=True, max_delete=0.5, folders=["below"], removed=removed)
    assert (report.listed, report.gone, report.deleted) == (0, 6, 6)
    assert uris(collection) == listed(photos)


def test_events_cannot_get_around_the_brake(
    photos: Path, collection: ImageCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing, "SMALL", 0)
    ingest(FolderSource(photos), collection)
    removed = [uri(photos / f"{index:02}.png") for index in (0, 2, 4)]
    for one in (0, 2, 4):
        (photos / f"{one:02}.png").unlink()
    report = ingest(FolderSource(photos), collection, delete=True, folders=[""], removed=removed)
    assert (report.gone, report.deleted, collection.count()) == (3, 0, 12)
    assert report.refused is not None
    report = ingest(FolderSource(photos), collection, folders=[""], removed=removed)
    assert (report.gone, collection.count()) == (None, 12)


def test_an_event_of_one_image_in_a_small_collection_is_followed(tmp_path: Path, collection: ImageCollection) -> None:
    folder = filled(tmp_path / "few", 3)
    ingest(FolderSource(folder), collection)
    (folder / "00.png").unlink()
    removed = [uri(folder / "00.png")]
    source = FolderSource(folder)
    assert ingest(source, collection, delete=True, max_delete=0, folders=[""], removed=removed).deleted == 0
    assert ingest(source, collection, delete=True, folders=[""], removed=removed).deleted == 1


def test_an_image_moved_between_folders_that_events_name_leaves_one_point(
    photos: Path, collection: ImageCollection, embedder: FakeEmbedder
) -> None:
    ingest(FolderSource(photos), collection)
    embedder.image_calls.clear()
    (photos / "00.png").rename(photos / "below" / "00.png")
    report = ingest(
        FolderSource(photos),
        collection,
        delete=True,
        folders=["", "below"],
        removed=[uri(photos / "00.png")],
    )
    assert (report.renamed, report.deleted, embedder.image_calls) == (1, 1, [])
    assert uris(collection) == listed(photos)


# Beside it


def test_a_store_without_the_collection_has_nothing_to_delete(tmp_path: Path, collection: ImageCollection) -> None:
    (tmp_path / "empty").mkdir()
    report = ingest(FolderSource(tmp_path / "empty"), collection, delete=True)
    assert (report.gone, report.deleted, report.refused, collection.exists()) == (0, 0, None, False)


def test_an_image_that_breaks_stays_as_it_was_stored(photos: Path, collection: ImageCollection) -> None:
    write_image(photos / "00.png", "white")
    ingest(FolderSource(photos), collection)
    (photos / "00.png").write_bytes(b"no image any more")
    report = ingest(FolderSource(photos), collection, delete=True, max_delete=1)
    assert (report.gone, report.deleted, [row.reason for row in report.quarantined]) == (0, 0, ["not an image"])
    assert collection.search("white", limit=1)[0].uri == uri(photos / "00.png")


def test_hashes_that_end_in_zeros_are_found_among_those_seen() -> None:
    seen = TextSet()
    names = [f"s3://bucket/{number}" for number in range(3000)]  # about ten hashes end in a zero byte
    for name in names[::2]:
        seen.add(name)
    assert len(seen) == 1500
    assert [name in seen for name in names] == [index % 2 == 0 for index in range(3000)]
    seen.add(names[1])
    assert names[1] in seen


def test_vectors_that_are_taken_over_are_the_ones_that_were_stored(
    photos: Path, collection: ImageCollection, embedder: FakeEmbedder
) -> None:
    ingest(FolderSource(photos), collection)
    (photos / "00.png").rename(photos / "99.png")
    ingest(FolderSource(photos), collection)
    old, new = (
        dense_vector(collection.client.retrieve("photos", ids=[hit.id], with_vectors=True)[0].vector)
        for hit in (collection.get(photos / "00.png"), collection.get(photos / "99.png"))
        if hit is not None
    )
    assert np.allclose(np.asarray(old), np.asarray(new))
