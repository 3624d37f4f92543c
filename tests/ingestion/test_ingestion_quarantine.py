"""What a run put away: not read again until something changes, gone from the state when it is fixed or deleted."""

from __future__ import annotations

import io
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from counting import CountingFolder
from fakes import FakeEmbedder, write_image
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from program import program_in
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import SourceError, StoreUnavailable
from clip_qdrant.images.formats import open as decoders
from clip_qdrant.images.load import Limits
from clip_qdrant.uris import to_uri
from clip_qdrant_ingestion import FolderSource, Page, Problem, Report, SourceObject
from clip_qdrant_ingestion.options import IngestOptions
from clip_qdrant_ingestion.run.extent import Extent
from clip_qdrant_ingestion.sources.share import Share
from clip_qdrant_ingestion.state.state import IngestState
from clip_qdrant_ingestion.worker.worker import Worker


@pytest.fixture
def collection(memory_client: QdrantBase) -> ImageCollection:
    return ImageCollection("photos", FakeEmbedder(), memory_client)


@pytest.fixture
def state() -> Iterator[IngestState]:
    with IngestState(":memory:") as state:
        yield state


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two good images, a file that is no image, and one that is too large for small limits."""
    write_image(tmp_path / "photos" / "a.png", "red")
    write_image(tmp_path / "photos" / "b.png", "blue")
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    write_image(tmp_path / "photos" / "large.png", "green", (300, 300))
    return tmp_path / "photos"


class Away(CountingFolder):
    """A folder in which reading the image `away` fails for a passing reason."""

    away = ""

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        if item.name == self.away:
            raise SourceError("503 Slow Down", transient=True)
        return super().read(item, limits=limits)


def run(source: FolderSource | Share, collection: ImageCollection, state: IngestState, **options: object) -> Report:
    settings = {"limits": SMALL, "patience": 0.0, "workers": 1, **options}
    return Worker(source, collection, state, IngestOptions(**settings), location="here").run()  # type: ignore[arg-type]  # names of options


SMALL = Limits(max_pixels=50_000)


def bad(state: IngestState) -> dict[str, str]:
    """What is in quarantine, by file name, and why."""
    return {row.uri.rpartition("/")[2]: row.reason for row in state.quarantined()}


def test_a_bad_file_is_read_once(photos: Path, collection: ImageCollection, state: IngestState) -> None:
    source = CountingFolder(photos)
    report = run(source, collection, state)
    assert (report.added, report.still_bad, len(report.quarantined)) == (2, 0, 2)
    assert bad(state) == {"bad.png": "not an image", "large.png": "too large"}
    source.images_read.clear()
    report = run(source, collection, state)
    assert (report.skipped, report.still_bad, report.quarantined, source.images_read) == (2, 2, (), [])
    assert [row.attempts for row in state.quarantined()] == [1, 1]


def test_what_had_no_decoder_is_read_again_by_itself_when_there_is_one(
    photos: Path, collection: ImageCollection, state: IngestState, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    (photos / "phone.heic").write_bytes(head + (photos / "a.png").read_bytes())
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    versions = {"pillow-heif": ""}
    monkeypatch.setattr(decoders, "describe_decoders", lambda: [*versions.values()])
    run(FolderSource(photos), collection, state)
    assert bad(state)["phone.heic"] == "unsupported"
    assert "clip-qdrant[heic]" in next(row.detail for row in state.quarantined() if row.uri.endswith("phone.heic"))
    assert run(FolderSource(photos), collection, state).still_bad == 3
    versions["pillow-heif"] = "1.8.1"
    opener = (lambda file, name: PngImageFile(io.BytesIO(file.read()[len(head) :])), None)
    monkeypatch.setitem(Image.OPEN, "HEIF", opener)
    report = run(FolderSource(photos), collection, state)
    assert (report.renamed + report.added, report.still_bad, len(report.quarantined)) == (1, 0, 2)
    assert "phone.heic" not in bad(state)


def test_a_bad_file_is_read_again_when_it_changes_and_leaves_when_it_is_fixed(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(FolderSource(photos), collection, state)
    (photos / "bad.png").write_bytes(b"still no image")
    source = CountingFolder(photos)
    report = run(source, collection, state)
    assert (report.still_bad, len(report.quarantined), source.images_read) == (1, 1, ["bad.png"])
    write_image(photos / "bad.png", "white")
    report = run(source, collection, state)
    assert (report.added, report.still_bad, bad(state)) == (1, 1, {"large.png": "too large"})


def test_a_bad_file_is_read_again_under_other_limits(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(FolderSource(photos), collection, state)
    report = run(FolderSource(photos), collection, state, limits=Limits())
    assert (report.added, report.still_bad, bad(state)) == (1, 0, {"bad.png": "not an image"})


def test_a_bad_file_is_read_again_on_request(photos: Path, collection: ImageCollection, state: IngestState) -> None:
    run(FolderSource(photos), collection, state)
    source = CountingFolder(photos)
    report = run(source, collection, state, retry_failed=True)
    assert (report.still_bad, len(report.quarantined)) == (0, 2)
    assert sorted(source.images_read) == ["bad.png", "large.png"]
    assert [row.attempts for row in state.quarantined()] == [2, 2]


def test_a_bad_file_that_is_deleted_leaves_the_quarantine_and_the_others_stay(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(FolderSource(photos), collection, state)
    (photos / "bad.png").unlink()
    assert run(FolderSource(photos), collection, state).still_bad == 1
    assert bad(state) == {"large.png": "too large"}


def test_a_bad_file_that_an_event_says_is_removed_leaves_too(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    source = FolderSource(photos)
    work = Worker(source, collection, state, IngestOptions(limits=SMALL), location="here")
    work.run()
    (photos / "bad.png").unlink()
    work.run(Extent(frozenset({""}), frozenset({to_uri(photos / "bad.png"), to_uri(photos / "large.png")})))
    assert bad(state) == {"large.png": "too large"}


@pytest.mark.parametrize("hole", ["a problem", "an error", "a part"])
def test_what_was_not_listed_stays_in_quarantine(
    photos: Path, collection: ImageCollection, state: IngestState, hole: str
) -> None:
    class Holed(FolderSource):
        def pages(self, folders: Collection[str] | None = None) -> Iterator[Page]:
            if hole == "an error":
                raise SourceError("the bucket does not answer", transient=True)
            yield Page(problems=[Problem("file:///locked", "unreadable", "no permission", hides_objects=True)])

    run(FolderSource(photos), collection, state)
    if hole == "a part":
        for index in range(2):
            part = Share(FolderSource(photos), index, 2)
            run(part, collection, state, owns=part.owns)
    elif hole == "an error":
        with pytest.raises(SourceError):
            run(Holed(photos), collection, state)
    else:
        run(Holed(photos), collection, state)
    assert {"bad.png", "large.png"} <= bad(state).keys()


def test_what_may_pass_by_itself_is_tried_at_each_run(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    source = Away(photos)
    source.away = "a.png"
    for attempt in (1, 2):
        report = run(source, collection, state)
        assert [(row.uri, row.permanent) for row in report.quarantined if row.reason == "unreadable"] == [
            (to_uri(photos / "a.png"), False)
        ]
        assert [row.attempts for row in state.quarantined() if row.reason == "unreadable"] == [attempt]
    source.away = ""
    assert run(source, collection, state).added == 1
    assert "a.png" not in bad(state)


def test_a_field_that_does_not_fit_is_told_each_time(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    (photos / "a.json").write_text('{"year": 2024}')
    (photos / "b.json").write_text('{"year": "late"}')
    for _ in range(2):
        report = run(FolderSource(photos), collection, state)
        assert [row.uri for row in report.fields_left_out] == [to_uri(photos / "b.png")]
    (photos / "b.json").write_text('{"year": 2025}')
    report = run(FolderSource(photos), collection, state)
    assert (report.payload_updated, report.fields_left_out) == (1, ())


def test_a_stored_image_that_breaks_is_passed_over_until_it_changes(
    photos: Path, collection: ImageCollection, state: IngestState
) -> None:
    run(FolderSource(photos), collection, state)
    good = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(b"broken")
    assert len(run(FolderSource(photos), collection, state).quarantined) == 1
    assert run(FolderSource(photos), collection, state, delete=True).still_bad == 3
    assert collection.count() == 2
    (photos / "a.png").write_bytes(good)
    report = run(FolderSource(photos), collection, state)
    assert (report.payload_updated + report.skipped, report.still_bad) == (2, 2)
    assert "a.png" not in bad(state)


def test_another_source_or_collection_knows_nothing_of_it(
    photos: Path, memory_client: QdrantBase, collection: ImageCollection, state: IngestState
) -> None:
    run(FolderSource(photos), collection, state)
    for source, name in ((FolderSource(photos, name="other"), "photos"), (FolderSource(photos), "more")):
        into = ImageCollection(name, FakeEmbedder(), memory_client)
        assert len(run(source, into, state).quarantined) == 2


def test_a_run_that_fails_keeps_what_it_had_found(
    photos: Path, collection: ImageCollection, state: IngestState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("Qdrant does not answer")

    monkeypatch.setattr(collection.writer, "write", away)
    with pytest.raises(StoreUnavailable):
        run(CountingFolder(photos), collection, state, readers=1, batch_size=1)
    (failed,) = state.runs(1)
    assert (failed.outcome, "Qdrant does not answer" in (failed.detail or "")) == ("failed", True)
    monkeypatch.undo()
    report = run(FolderSource(photos), collection, state)
    assert report.added == 2
    assert report.still_bad + len(report.quarantined) == 2


def test_runs_and_their_quarantine_are_reported(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with program_in(tmp_path / "work", monkeypatch) as program:
        (photos / "large.png").unlink()
        assert program("ingest", photos).code == 6
        write_image(photos / "c.png", "white")
        assert program("ingest", photos).code == 6
        document = program("ingest-report", "--json").json
        last, first = document["runs"]
        assert [(one["outcome"], one["report"]["added"], one["report"]["still_bad"]) for one in (first, last)] == [
            ("done", 2, 0),
            ("done", 1, 1),
        ]
        (row,) = document["quarantined"]
        assert (row["uri"], row["reason"], row["attempts"]) == (to_uri(photos / "bad.png"), "not an image", 1)
        assert document["reasons"] == {"not an image": 1}
        assert program("ingest", photos, "--retry-failed").code == 6
        assert program("ingest-report", "--json").json["quarantined"][0]["attempts"] == 2
        write_image(photos / "bad.png", "black")
        assert program("ingest", photos).code == 0
        assert program("ingest-report", "--json").json["quarantined"] == []
