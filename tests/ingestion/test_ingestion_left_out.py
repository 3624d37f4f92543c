"""What is no image to a source: leftovers of programs and dead links are left out, files of other kinds counted."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeEmbedder, write_image
from program import Program, program_in
from qdrant_client.client_base import QdrantBase
from s3 import Bucket, new_bucket

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import SourceError
from clip_qdrant.uris import to_uri
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion import FolderSource, ShardSource, Source, ingest
from clip_qdrant_ingestion.cli.watch import make_change_queue
from clip_qdrant_ingestion.run.extent import Extent
from clip_qdrant_ingestion.settings import IngestSettings
from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
from clip_qdrant_ingestion.sources.buckets.listing import open_bucket
from clip_qdrant_ingestion.sources.tree.selection import Selection
from clip_qdrant_ingestion.sources.web import http_index as http_index
from clip_qdrant_ingestion.sources.web.http_index import HttpIndexSource
from clip_qdrant_ingestion.worker.events.messages import Change

LEFTOVERS = [
    "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/old.jpg", "below/@eaDir/b.jpg", "._a.jpg", ".thumbnails/a.jpg",
    ".@__thumb/a.jpg", "$RECYCLE.BIN/a.jpg", ".Trash-1000/a.jpg", "__MACOSX/._a.jpg", "Thumbs.db",
]  # fmt: skip


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


def names(source: Source) -> list[str]:
    return sorted(item.name for page in source.pages() for item in page.objects)


def passed_over(source: Source) -> dict[str, int]:
    found: dict[str, int] = {}
    for page in source.pages():
        for kind, count in page.passed_over.items():
            found[kind] = found.get(kind, 0) + count
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "below/b.jpg", *LEFTOVERS):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "photos"


def test_leftovers_of_programs_are_left_out_of_folders(photos: Path) -> None:
    assert names(FolderSource(photos)) == ["a.jpg", "below/b.jpg"]
    assert len(names(FolderSource(photos, hidden=True))) == 2 + len(LEFTOVERS) - 1  # Thumbs.db is no image
    assert passed_over(FolderSource(photos)) == {}


def test_leftovers_of_programs_are_left_out_of_buckets(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = new_bucket(monkeypatch)
    for path in photos.rglob("*.*"):
        if path.is_file():
            bucket.put(path.relative_to(photos).as_posix())
    assert names(BucketSource(bucket.url)) == ["a.jpg", "below/b.jpg"]
    assert "#recycle/old.jpg" in names(BucketSource(bucket.url, hidden=True))


def test_leftovers_of_programs_are_left_out_of_archives(photos: Path) -> None:
    archive = photos.parent / "photos.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(photos, ".")
    (photos.parent / "._photos.tar").write_bytes(b"no archive")
    assert names(ShardSource(archive)) == names(ShardSource(photos.parent)) == ["a.jpg", "below/b.jpg"]
    assert "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg" in names(ShardSource(archive, hidden=True))


def test_files_of_other_kinds_are_counted_by_suffix(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_image(folder / "a.jpg", "red")
    for name in ("b.CR3", "c.cr3", "below/d.mp4", "e", "set.tar.gz", "f.txt", "g.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    expected = {".cr3": 2, ".mp4": 1, "no suffix": 1, ".tar.gz": 1}
    assert passed_over(FolderSource(folder)) == expected
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(folder, ".")
    assert passed_over(ShardSource(tmp_path / "photos.tar")).items() >= {".cr3": 2, ".mp4": 1}.items()


def test_the_report_tells_of_other_kinds_and_of_nothing_found(program: Program) -> None:
    for name in ("a.tar", "b.tar", "c.NEF", "d"):
        (program.folder / "photos").mkdir(exist_ok=True)
        (program.folder / "photos" / name).write_bytes(b"")
    outcome = program("ingest", "photos")
    told = " ".join(outcome.out.split())
    assert "no images in photos; 2 tar files: --kind shards" in told
    assert "not taken for images: 2 .tar, 1 .nef, 1 no suffix; --include '*' takes files without a suffix" in told
    for options in ((), ("--dry-run",)):
        found = program("ingest", "photos", "--json", *options).json["passed_over"]
        assert found == {".tar": 2, ".nef": 1, "no suffix": 1}


def test_quarantined_objects_are_grouped_by_reason(program: Program) -> None:
    (program.folder / "photos").mkdir()
    for number in range(60):
        (program.folder / "photos" / f"{number:02}.jpg").write_bytes(b"" if number % 30 else b"this is text")
    outcome = program("ingest", "photos")
    reasons = [line.split("|")[1].strip() for line in outcome.out.splitlines() if line.count("|") == 2 and "(" in line]
    reasons = [reason for reason in reasons if reason]
    assert reasons == ["empty (58)"] * 48 + ["not an image (2)"] * 2
    assert "the first 50 of 60 (58 empty, 2 not an image)" in outcome.out


# Links


def test_a_dead_link_counts_as_gone(tmp_path: Path, memory_client: QdrantBase) -> None:
    folder, collection = tmp_path / "photos", ImageCollection("photos", FakeEmbedder(), memory_client)
    outside = write_image(tmp_path / "outside" / "a.png", "red")
    write_image(folder / "b.png", "blue")
    (folder / "a.png").symlink_to(outside)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    assert ingest(FolderSource(folder), collection).added == 2
    outside.unlink()
    report = ingest(FolderSource(folder), collection, delete=True)
    assert (report.listed, report.quarantined, report.deleted) == (1, (), 1)
    assert report.passed_over == {"dead link": 2}


def test_links_are_followed_out_of_the_folder_unless_it_is_asked_otherwise(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_image(tmp_path / "outside" / "a.png", "red")
    write_image(folder / "b.png", "blue")
    (folder / "file.png").symlink_to(tmp_path / "outside" / "a.png")
    (folder / "folder").symlink_to(tmp_path / "outside")
    (folder / "round").symlink_to(folder)
    assert names(FolderSource(folder)) == ["b.png", "file.png", "folder/a.png"]
    plain = FolderSource(folder, follow_symlinks=False)
    assert (names(plain), passed_over(plain)) == (["b.png"], {"link": 3})


# Listings that do not end


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return new_bucket(monkeypatch)


@pytest.mark.parametrize("tokens", [["again"], [None], []])
def test_a_bucket_that_does_not_go_on_is_an_error(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tokens: list[str | None]
) -> None:
    opened = open_bucket(bucket.url)
    number = iter(range(10**9))

    def page(start: str, token: object) -> dict[str, object]:
        following = tokens[0] if tokens else f"another {next(number)}"  # and always empty
        files = [{"Key": f"{next(number)}.jpg", "Size": 1}] if tokens else []
        return {"Contents": files, "IsTruncated": True, "NextContinuationToken": following}

    monkeypatch.setattr(opened, "_page", page)
    with pytest.raises(SourceError, match="to its end"):
        list(opened.entries(""))


def test_a_web_server_that_makes_up_folders_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_index, "_MOST_FOLDERS", 40)
    fetcher = Fetcher(allow_private=True, timeout=5)

    class Endless(HttpIndexSource):
        def _names(self, folder: str) -> list[str]:
            return ["a.jpg", "b/", "c/"]

    with pytest.raises(SourceError, match="makes them up"):
        list(Endless("http://host/", fetcher=fetcher).pages())
    fetcher.close()


# Watching


def test_a_watch_looks_at_hidden_folders_and_files_of_the_suffixes_that_are_asked_for(tmp_path: Path) -> None:
    settings = IngestSettings(source=str(tmp_path), hidden=True, include=("*.dat", "*"))
    queue = make_change_queue(settings, str(tmp_path), stdin=False)
    queue.put([Change(to_uri(tmp_path / ".h" / "a.png")), Change(to_uri(tmp_path / "b.png"))])
    queue.put_back(Extent(folders=frozenset()))  # so that nothing waits
    extent = queue.take()
    assert extent is not None
    assert extent.folders == {".h", ""}
    assert Selection(settings.include).suffixes >= {".dat", ".png", ".json", ""}
    assert "" not in Selection(["*.dat"]).suffixes
