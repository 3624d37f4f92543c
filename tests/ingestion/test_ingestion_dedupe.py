"""Near-duplicates: stored, tagged with the first one, or left out; and none is lost whatever becomes of the first."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from counting import CountingFolder
from fakes import FakeEmbedder, picture, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.images.load import Limits
from clip_qdrant.uris import to_uri
from clip_qdrant_ingestion import FolderSource, Page, Report, SourceObject, ingest
from clip_qdrant_ingestion.options import Dedupe
from clip_qdrant_ingestion.run import outcomes as outcomes
from clip_qdrant_ingestion.state.reader import Scope
from clip_qdrant_ingestion.state.state import IngestState


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`a.png`; `b.jpg`, the same picture smaller and compressed; `c.png`, another one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    picture(1).save(folder / "a.png")
    picture(1).resize((120, 120)).save(folder / "b.jpg", quality=60)
    picture(2).save(folder / "c.png")
    return folder


@pytest.fixture
def state() -> Iterator[IngestState]:
    with IngestState(":memory:") as state:
        yield state


def run(
    folder: Path, collection: ImageCollection, state: IngestState | None = None, *, how: Dedupe = "skip", **options: Any
) -> Report:
    """One run in which images come one after the other."""
    memory = None
    source = options.pop("source", None) or FolderSource(folder)
    if state is not None:
        memory = state.put_away(Scope("here", "photos", source.name), "context")
    return ingest(
        source, collection, dedupe=how, memory=memory, workers=1, readers=1, batch_size=1, max_delete=1, **options
    )


def store_all(folder: Path, collection: ImageCollection) -> None:
    """Stores all images, `a.png` and `c.png` before the others."""
    later = {path: path.read_bytes() for path in folder.iterdir() if path.name not in ("a.png", "c.png")}
    for path in later:
        path.unlink()
    run(folder, collection, how="off")
    for path, content in later.items():
        path.write_bytes(content)
    run(folder, collection, how="off")


def names(collection: ImageCollection) -> dict[str, str | None]:
    """The stored images by file name, each with the name of the one that it is tagged with."""
    found = {}
    for payload in collection.writer.scan():
        first = payload.get("duplicate_of")
        found[payload["uri"].rpartition("/")[2]] = first and first.rpartition("/")[2]
    return found


def repaint(path: Path, seed: int) -> None:
    picture(seed).resize((140, 140 + seed)).save(path)


def test_near_duplicates_are_stored_unless_it_is_asked_otherwise(folder: Path, collection: ImageCollection) -> None:
    report = run(folder, collection, how="off")
    assert (report.added, report.duplicates) == (3, 0)
    assert names(collection) == {"a.png": None, "b.jpg": None, "c.png": None}


def test_a_near_duplicate_is_stored_with_the_uri_of_the_first(folder: Path, collection: ImageCollection) -> None:
    report = run(folder, collection, how="tag")
    assert (report.added, report.duplicates) == (3, 0)
    assert names(collection) == {"a.png": None, "b.jpg": "a.png", "c.png": None}
    first = to_uri(folder / "a.png")
    assert collection.count(f"duplicate_of = '{first}'") == 1
    assert collection.search("red", where=f"duplicate_of = '{first}'")[0].uri == to_uri(folder / "b.jpg")
    assert run(folder, collection, how="tag").skipped == 3


def test_a_new_caption_leaves_the_tag(folder: Path, collection: ImageCollection) -> None:
    run(folder, collection, how="tag")
    (folder / "b.txt").write_text("a small one")
    assert run(folder, collection, how="tag").payload_updated == 1
    assert names(collection)["b.jpg"] == "a.png"


def test_a_near_duplicate_is_left_out_and_not_read_again(
    folder: Path, collection: ImageCollection, state: IngestState
) -> None:
    report = run(folder, collection, state)
    assert (report.added, report.duplicates, report.quarantined) == (2, 1, ())
    assert names(collection) == {"a.png": None, "c.png": None}
    assert [(row.uri, row.first) for row in state.left_out()] == [(to_uri(folder / "b.jpg"), to_uri(folder / "a.png"))]

    class Unread(FolderSource):
        def read(self, item: SourceObject, *, limits: Limits) -> bytes:
            raise AssertionError(f"{item.name} was read")

    report = run(folder, collection, state, source=Unread(folder))
    assert (report.skipped, report.duplicates, report.quarantined) == (2, 1, ())


@pytest.mark.parametrize("remembers", [False, True])
def test_near_duplicates_that_are_stored_already_are_left_out_unread(
    folder: Path, collection: ImageCollection, state: IngestState, remembers: bool
) -> None:
    store_all(folder, collection)
    source = CountingFolder(folder)
    report = run(folder, collection, state if remembers else None, source=source)
    assert (report.skipped, report.duplicates, source.images_read) == (2, 1, [])
    assert names(collection) == {"a.png": None, "c.png": None}
    report = run(folder, collection, state if remembers else None, source=source)
    assert (report.skipped, report.duplicates, source.images_read) == (2, 1, [] if remembers else ["b.jpg"])
    (folder / "a.png").unlink()
    run(folder, collection, state if remembers else None, delete=True)
    assert names(collection) == {"b.jpg": None, "c.png": None}


def test_near_duplicates_that_are_stored_already_are_marked_unread(folder: Path, collection: ImageCollection) -> None:
    picture(1).resize((150, 150)).save(folder / "d.png")
    store_all(folder, collection)
    source = CountingFolder(folder)
    report = run(folder, collection, how="tag", source=source)
    assert (report.payload_updated, report.skipped, source.images_read) == (2, 2, [])
    assert names(collection) == {"a.png": None, "b.jpg": "a.png", "c.png": None, "d.png": "a.png"}
    assert run(folder, collection, how="tag").skipped == 4


def test_without_a_state_it_is_found_again_each_time(folder: Path, collection: ImageCollection) -> None:
    for _ in range(2):
        assert run(folder, collection).duplicates == 1
    assert names(collection) == {"a.png": None, "c.png": None}


def test_a_copy_is_a_near_duplicate_too(folder: Path, collection: ImageCollection) -> None:
    (folder / "z.png").write_bytes((folder / "c.png").read_bytes())
    report = run(folder, collection)
    assert (report.added, report.duplicates) == (2, 2)


def test_images_of_earlier_runs_and_other_sources_count_as_first(
    tmp_path: Path, folder: Path, collection: ImageCollection
) -> None:
    run(folder, collection)
    other = tmp_path / "other"
    other.mkdir()
    picture(2).rotate(1).save(other / "near c.jpg")
    picture(3).save(other / "d.png")
    report = run(other, collection)
    assert (report.added, report.duplicates) == (1, 1)


def test_plain_pictures_are_near_nothing(folder: Path, collection: ImageCollection) -> None:
    for name, colour in (("p.png", "red"), ("q.png", "red"), ("r.png", "white")):
        write_image(folder / name, colour)
    report = run(folder, collection)
    assert (report.added + report.copied, report.duplicates) == (5, 1)  # two of them are of the same bytes


def test_what_was_left_out_comes_in_when_it_is_not_to_be_left_out_any_more(
    folder: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(folder, collection, state)
    assert run(folder, collection, state, how="off").added == 1
    assert list(state.left_out()) == []


def test_when_the_first_is_deleted_its_duplicate_takes_its_place_in_the_same_run(
    folder: Path, collection: ImageCollection, state: IngestState
) -> None:
    picture(1).resize((150, 150)).save(folder / "d.png")
    assert run(folder, collection, state).duplicates == 2
    (folder / "a.png").unlink()
    report = run(folder, collection, state, delete=True)
    assert (report.added, report.deleted, report.skipped, report.duplicates) == (1, 1, 1, 1)
    assert names(collection) == {"b.jpg": None, "c.png": None}
    assert [(row.uri, row.first) for row in state.left_out()] == [(to_uri(folder / "d.png"), to_uri(folder / "b.jpg"))]
    report = run(folder, collection, state, delete=True)
    assert (report.skipped, report.duplicates, report.gone) == (2, 1, 0)


@pytest.mark.parametrize("rows_a_write", [1, 500])
@pytest.mark.parametrize("remembers", [False, True])
def test_a_first_that_is_renamed_is_not_lost(
    folder: Path, collection: ImageCollection, monkeypatch: pytest.MonkeyPatch, rows_a_write: int, remembers: bool
) -> None:
    monkeypatch.setattr(outcomes, "_ROWS_A_WRITE", rows_a_write)
    with IngestState(":memory:") as opened:
        state = opened if remembers else None
        run(folder, collection, state)
        (folder / "a.png").rename(folder / "z.png")
        report = run(folder, collection, state, delete=True)
        assert report.deleted == 1
        assert sorted(names(collection)) == ["b.jpg", "c.png"]
        (folder / "b.jpg").unlink()
        report = run(folder, collection, state, delete=True)
        assert (report.deleted, sorted(names(collection))) == (1, ["c.png", "z.png"])
        (folder / "z.png").rename(folder / "y.png")
        report = run(folder, collection, state, delete=True)
        assert (report.renamed, report.deleted, sorted(names(collection))) == (1, 1, ["c.png", "y.png"])


def test_a_duplicate_that_becomes_another_picture_is_stored(
    folder: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(folder, collection, state)
    repaint(folder / "b.jpg", 7)
    report = run(folder, collection, state)
    assert (report.added, report.duplicates) == (1, 0)
    assert list(state.left_out()) == []


def test_a_duplicate_that_is_only_touched_stays_left_out(
    folder: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(folder, collection, state)
    os.utime(folder / "b.jpg", (1_600_000_000, 1_600_000_000))
    assert run(folder, collection, state).duplicates == 1
    assert sorted(names(collection)) == ["a.png", "c.png"]


def test_when_the_first_becomes_another_picture_its_duplicate_is_stored_in_the_same_run(
    folder: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(folder, collection, state)
    repaint(folder / "a.png", 8)
    report = run(folder, collection, state)
    assert (report.updated, report.added, report.duplicates) == (1, 1, 0)
    assert names(collection) == {"a.png": None, "b.jpg": None, "c.png": None}


def test_a_stored_image_that_becomes_a_near_duplicate_does_not_stay_as_it_was(
    folder: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(folder, collection, state)
    picture(1).resize((100, 100)).save(folder / "c.png")
    report = run(folder, collection, state)
    assert (report.updated, report.duplicates) == (1, 1)
    assert names(collection) == {"a.png": None, "c.png": "a.png"}
    hit = collection.get(folder / "c.png")
    assert hit is not None
    assert hit.payload["image"]["width"] == 100


@pytest.mark.parametrize("how", ["tag", "skip"])
def test_two_images_that_change_places_are_duplicates_of_nothing(
    folder: Path, collection: ImageCollection, state: IngestState, how: Dedupe
) -> None:
    (folder / "b.jpg").unlink()
    run(folder, collection, state, how=how)
    (folder / "a.png").rename(folder / "aside")
    (folder / "c.png").rename(folder / "a.png")
    (folder / "aside").rename(folder / "c.png")
    report = run(folder, collection, state, how=how)
    assert (report.updated, report.duplicates) == (2, 0)
    assert names(collection) == {"a.png": None, "c.png": None}


@pytest.mark.parametrize("how", ["tag", "off"])
def test_tags_follow_when_the_first_is_deleted(folder: Path, collection: ImageCollection, how: Dedupe) -> None:
    """Also by a run that looks for no duplicates."""
    picture(1).resize((150, 150)).save(folder / "d.png")
    (folder / "d.txt").write_text("it keeps this")
    run(folder, collection, how="tag")
    assert names(collection) == {"a.png": None, "b.jpg": "a.png", "c.png": None, "d.png": "a.png"}
    (folder / "a.png").unlink()
    assert run(folder, collection, how=how, delete=True).deleted == 1
    found = names(collection)
    assert found.pop("c.png") is None
    assert found in ({"b.jpg": None, "d.png": "b.jpg"}, {"b.jpg": "d.png", "d.png": None})
    hit = collection.get(folder / "d.png")
    assert hit is not None
    assert (hit.caption, hit.payload["source"]["name"]) == ("it keeps this", FolderSource(folder).name)
    assert run(folder, collection, how="tag", delete=True).skipped == 3


def test_no_image_is_tagged_with_one_that_is_gone_after_a_rename(folder: Path, collection: ImageCollection) -> None:
    run(folder, collection, how="tag")
    (folder / "a.png").rename(folder / "z.png")
    report = run(folder, collection, how="tag", delete=True)
    assert (report.renamed, report.deleted) == (1, 1)
    found = names(collection)
    assert found.pop("c.png") is None
    assert found in ({"b.jpg": None, "z.png": "b.jpg"}, {"b.jpg": "z.png", "z.png": None})


@pytest.mark.parametrize("how", ["tag", "off"])
def test_tags_follow_when_the_first_becomes_another_picture(
    folder: Path, collection: ImageCollection, how: Dedupe
) -> None:
    run(folder, collection, how="tag")
    repaint(folder / "a.png", 9)
    assert run(folder, collection, how=how).updated == 1
    assert names(collection) == {"a.png": None, "b.jpg": None, "c.png": None}


@pytest.mark.parametrize("how", ["tag", "off"])
def test_tags_stay_when_the_first_is_only_compressed_anew(
    folder: Path, collection: ImageCollection, how: Dedupe
) -> None:
    run(folder, collection, how="tag")
    picture(1).resize((200, 200)).save(folder / "a.png")
    assert run(folder, collection, how=how).updated == 1
    assert names(collection) == {"a.png": None, "b.jpg": "a.png", "c.png": None}


def test_an_interrupted_deletion_loses_no_image(folder: Path, collection: ImageCollection, state: IngestState) -> None:
    """What was left out is read again before the first is deleted; if that is stopped, so is the deletion."""
    run(folder, collection, state)
    (folder / "a.png").unlink()
    stop = threading.Event()

    class Stopping(FolderSource):
        listings = 0

        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            self.listings += 1
            if self.listings == 2:
                stop.set()
            return super().pages(folders)

    report = run(folder, collection, state, source=Stopping(folder), delete=True, stop=stop)
    assert (report.interrupted, report.deleted, sorted(names(collection))) == (True, 0, ["a.png", "c.png"])
    report = run(folder, collection, state, delete=True)
    assert (report.deleted, sorted(names(collection))) == (1, ["b.jpg", "c.png"])


steps = st.lists(
    st.tuples(st.sampled_from(["paint", "rename", "swap", "delete", "touch"]), st.integers(0, 5), st.integers(1, 3)),
    max_size=5,
)


@settings(max_examples=25)
@given(histories=st.lists(steps, min_size=1, max_size=4), how=st.sampled_from(["tag", "skip"]))
def test_whatever_happens_each_picture_is_there_and_each_tag_is_right(
    histories: Sequence[Sequence[tuple[str, int, int]]], how: Dedupe
) -> None:
    """Six names, three pictures in several sizes: one picture's images are near each other, and nothing else is."""
    client = QdrantClient(":memory:")
    shown: dict[str, int] = {}  # the picture by file name
    made = 0
    with TemporaryDirectory() as place, IngestState(":memory:") as state:
        folder, collection = Path(place), ImageCollection("photos", FakeEmbedder(), client)

        def paint(name: str, seed: int) -> None:
            nonlocal made
            made += 1
            shown[name] = seed
            picture(seed).resize((64 + made, 64)).save(folder / name)
            os.utime(folder / name, (1_500_000_000 + made, 1_500_000_000 + made))

        for number, seed in enumerate((1, 1, 2)):
            paint(f"{number}.png", seed)
        for happened in [(), *histories]:
            for what, number, seed in happened:
                made += 1
                name = sorted(shown)[number % len(shown)]
                other = f"{(number + seed) % 6}.png"
                if what == "paint":
                    paint(f"{number}.png", seed)
                elif what == "touch":
                    os.utime(folder / name, (1_600_000_000 + made, 1_600_000_000 + made))
                elif what == "delete" and len(shown) > 1:
                    (folder / name).unlink()
                    del shown[name]
                elif what == "rename":
                    (folder / name).rename(folder / other)
                    shown[other] = shown.pop(name)
                elif what == "swap" and other in shown and other != name:
                    (folder / name).rename(folder / "aside")
                    (folder / other).rename(folder / name)
                    (folder / "aside").rename(folder / other)
                    shown[name], shown[other] = shown[other], shown[name]
            report = run(folder, collection, state, how=how, delete=True)
            assert report.refused is None
            assert report.listed == report.added + report.updated + report.renamed + report.copied + (
                report.payload_updated + report.skipped + report.duplicates
            )
            stored = names(collection)
            assert stored.keys() <= shown.keys()
            if how == "tag":
                assert stored.keys() == shown.keys()
            firsts = [shown[name] for name, first in stored.items() if first is None]
            assert sorted(firsts) == sorted(set(shown.values())), "one untagged image of each picture"
            for name, first in stored.items():
                if first is not None:
                    assert shown[first] == shown[name]
                    assert stored[first] is None
            for payload in collection.writer.scan(parts=["uri", "image.sha256"]):
                content = (folder / payload["uri"].rpartition("/")[2]).read_bytes()
                assert payload["image"]["sha256"] == hashlib.sha256(content).hexdigest()
    client.close()
