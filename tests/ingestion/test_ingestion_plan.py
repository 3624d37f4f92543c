"""The plan of a run says what the run will do, and stores nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from counting import CountingFolder
from fakes import FakeEmbedder, picture, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import SourceError
from clip_qdrant.uris import to_uri
from clip_qdrant_ingestion import FolderSource, Page, Plan, Problem, plan
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.sources.share import Share
from clip_qdrant_ingestion.state.state import IngestState
from clip_qdrant_ingestion.worker.worker import Worker


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Eight images, each of its own size in bytes."""
    for index in range(8):
        write_image(tmp_path / "photos" / f"{index}.png", (20 * index, 5, 5), (20 + 20 * index, 16))
    return tmp_path / "photos"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[IngestState]:
    with IngestState(tmp_path / "state.sqlite") as state:
        yield state


def worker(folder: Path, collection: ImageCollection, state: IngestState, **options: object) -> Worker:
    return Worker(FolderSource(folder), collection, state, IngestOptions(**options), location="here")  # type: ignore[arg-type]  # names of options


def kinds(plan: Plan) -> dict[str, int]:
    """The counts that are not 0."""
    names = ("new", "changed", "renamed", "described", "unchanged", "still_bad", "still_duplicates", "gone")
    return {name: getattr(plan, name) for name in names if getattr(plan, name)}


def test_each_image_is_of_the_kind_that_the_run_will_find(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    worker(photos, collection, state).run()
    write_image(photos / "new.png", "red", (500, 16))
    write_image(photos / "0.png", "white", (18, 18))
    (photos / "1.png").rename(photos / "renamed.png")
    (photos / "2.png").unlink()
    (photos / "3.txt").write_text("described")
    os.utime(photos / "4.png", (1_600_000_000, 1_600_000_000))
    found = worker(photos, collection, state).plan()
    assert kinds(found) == {
        "new": 1,
        "changed": 1,
        "renamed": 1,
        "described": 2,
        "unchanged": 3,
        "still_bad": 1,
        "gone": 2,
    }
    assert (found.listed, found.complete, found.quarantined) == (9, True, ())
    assert found.examples == {
        "new": (to_uri(photos / "new.png"),),
        "changed": (to_uri(photos / "0.png"),),
        "renamed": (to_uri(photos / "renamed.png"),),
        "described": (to_uri(photos / "3.png"), to_uri(photos / "4.png")),
        "gone": tuple(sorted((to_uri(photos / "1.png"), to_uri(photos / "2.png")), key=found.examples["gone"].index)),
    }
    document = found.document()
    assert (document["new"], document["quarantined"]) == (1, [])


def test_a_plan_stores_nothing(photos: Path, collection: ImageCollection, state: IngestState, tmp_path: Path) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    (photos / "0.json").write_text('{"year": 2024}')
    assert kinds(worker(photos, collection, state).plan()) == {"new": 9}
    assert not collection.exists()

    worker(photos, collection, state).run()

    def contents() -> object:
        with contextlib.closing(sqlite3.connect(tmp_path / "state.sqlite")) as connection:
            rows = connection.execute("SELECT * FROM objects").fetchall()
        return rows, state.runs(10), sorted(collection.writer.scan(), key=lambda payload: str(payload["uri"]))

    before = contents()
    (photos / "1.json").write_text('{"brand": "x"}')
    os.utime(photos / "2.png", (1_600_000_000, 1_600_000_000))
    (photos / "worse.png").write_bytes(b"no image")
    assert kinds(worker(photos, collection, state).plan()) == {"new": 1, "described": 2, "unchanged": 6, "still_bad": 1}
    assert contents() == before
    assert "metadata.brand" not in collection.fields


def test_of_new_images_only_those_as_large_as_one_that_is_gone_are_read(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    worker(photos, collection, state).run()
    write_image(photos / "larger.png", "white", (600, 600))
    source = CountingFolder(photos)
    assert kinds(plan(source, collection)) == {"new": 1, "unchanged": 8}
    assert source.images_read == []
    (photos / "1.png").rename(photos / "renamed.png")
    (photos / "2.png").unlink()
    assert kinds(plan(source, collection)) == {"new": 1, "renamed": 1, "unchanged": 6, "gone": 2}
    assert source.images_read == ["renamed.png"]


def test_of_changed_images_only_those_as_large_as_before_are_read(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    worker(photos, collection, state).run()
    os.utime(photos / "0.png", (1_600_000_000, 1_600_000_000))
    write_image(photos / "1.png", "white", (99, 99))
    source = CountingFolder(photos)
    assert kinds(plan(source, collection)) == {"described": 1, "changed": 1, "unchanged": 6}
    assert source.images_read == ["0.png"]


def test_a_listing_with_a_hole_says_so_and_takes_nothing_for_gone(photos: Path, collection: ImageCollection) -> None:
    class Holed(FolderSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            for page in super().pages(folders):
                yield Page(page.objects[1:], [Problem("file:///locked", "unreadable", "no", hides_objects=True)])

    with IngestState(":memory:") as state:
        worker(photos, collection, state).run()
    found = plan(Holed(photos), collection)
    assert (kinds(found), found.complete, len(found.quarantined)) == ({"unchanged": 7}, False, 1)


def test_a_source_that_cannot_be_listed_has_no_plan(tmp_path: Path, collection: ImageCollection) -> None:
    with pytest.raises(SourceError, match="not found"):
        plan(FolderSource(tmp_path / "none"), collection)


def test_a_part_takes_only_its_own_for_gone(photos: Path, collection: ImageCollection, state: IngestState) -> None:
    worker(photos, collection, state).run()
    for path in photos.iterdir():
        if path.stem != "0":
            path.unlink()
    parts = [Share(FolderSource(photos), index, 9) for index in range(9)]
    plans = [plan(part, collection, owns=part.owns) for part in parts]
    assert sum(found.gone for found in plans) == 7
    assert all(found.gone < 7 for found in plans)


def test_what_was_left_out_is_planned_only_where_it_is_left_out_again(
    tmp_path: Path, photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    picture(1).save(photos / "a.png")
    picture(1).resize((90, 90)).save(photos / "b.png")
    assert worker(photos, collection, state, dedupe="skip").run().duplicates == 1
    assert kinds(worker(photos, collection, state, dedupe="skip").plan()) == {"unchanged": 9, "still_duplicates": 1}
    assert kinds(worker(photos, collection, state).plan()) == {"unchanged": 9, "new": 1}
    assert worker(photos, collection, state).run().added == 1


def test_metadata_that_does_not_fit_is_in_the_plan_as_in_the_run(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    for index, year in enumerate(("2020", "2021", '"long ago"')):
        (photos / f"{index}.json").write_text(f'{{"year": {year}}}')
    found = worker(photos, collection, state).plan()
    report = worker(photos, collection, state).run()
    assert (found.new, report.added) == (8, 8)
    assert found.fields_left_out == report.fields_left_out
    assert [(row.field, row.count) for row in found.fields_left_out] == [("year", 1)]
    assert found.document()["fields_left_out"][0]["field"] == "year"


Step = tuple[str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "change", "repaint", "touch", "rename", "swap", "delete", "break", "describe"]),
        st.integers(0, 5),
    ),
    max_size=6,
)


class Folder:
    """A small folder to which things happen. No two images are ever of the same bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made = 0
        for number in range(6):
            self.do("add", number)

    def do(self, what: str, number: int) -> None:
        self._made += 1
        made, paths = self._made, sorted(self.path.glob("*.png"))
        if what == "add" or not paths:
            self._paint(self.path / f"{made:03}.png", size=20 + made % 3)
            return
        path, other = paths[number % len(paths)], paths[(number + 1) % len(paths)]
        if what == "change":
            self._paint(path, size=30 + made)
        elif what == "repaint":  # most times as many bytes as before
            self._paint(path, size=20)
        elif what == "touch":
            os.utime(path, (1_600_000_000 + made, 1_600_000_000 + made))
        elif what == "rename":
            path.rename(self.path / f"{made:03}.png")
        elif what == "swap" and other != path:
            aside = self.path / "aside"
            path.rename(aside)
            other.rename(path)
            aside.rename(other)
        elif what == "delete":
            path.unlink()
        elif what == "break":
            path.write_bytes(b"no image %d" % made)
        elif what == "describe":
            path.with_suffix(".txt").write_text(f"caption {made}")

    def _paint(self, path: Path, *, size: int) -> None:
        write_image(path, (self._made, 255 - self._made, 7), (size, 16))
        os.utime(path, (1_500_000_000 + self._made, 1_500_000_000 + self._made))


@settings(max_examples=25)
@given(histories=st.lists(steps, min_size=1, max_size=3))
def test_the_numbers_of_a_plan_are_those_of_the_run_that_follows(histories: Sequence[Sequence[Step]]) -> None:
    client = QdrantClient(":memory:")
    with TemporaryDirectory() as place, IngestState(":memory:") as state:
        folder = Folder(Path(place))
        collection = ImageCollection("photos", FakeEmbedder(), client)
        worked = worker(folder.path, collection, state, delete=True, max_delete=1.0, workers=1, readers=1)
        for steps in [(), *histories]:
            for what, number in steps:
                folder.do(what, number)
            there = {payload["uri"] for payload in collection.writer.scan(parts=["uri"])}
            planned = worked.plan()
            report = worked.run()
            bad_before = sum(row.uri in there for row in report.quarantined)
            new = report.added + report.renamed + report.copied
            assert planned.new + planned.renamed == new + len(report.quarantined) - bad_before
            if not any(what == "swap" for what, _ in steps):  # a new one with an old one: what has its bytes stays
                assert planned.renamed == report.renamed
            assert planned.renamed <= report.renamed
            assert planned.changed == report.updated + bad_before
            assert planned.described == report.payload_updated
            assert planned.unchanged == report.skipped
            assert planned.still_bad == report.still_bad
            assert planned.gone == report.gone
            assert report.deleted == (0 if report.refused else planned.gone)
            assert planned.listed == report.listed
            bad = {row.uri for row in state.quarantined(None, None)}
            listed = {to_uri(path) for path in folder.path.glob("*.png")}
            hashes = {payload["uri"]: payload["image"]["sha256"] for payload in collection.writer.scan()}
            stored = set(hashes)
            assert bad <= listed
            for path in folder.path.glob("*.png"):
                if to_uri(path) not in bad:
                    assert hashes[to_uri(path)] == hashlib.sha256(path.read_bytes()).hexdigest()
            if not report.refused:
                assert stored <= listed
                assert stored | bad == listed
    client.close()
