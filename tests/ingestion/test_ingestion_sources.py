"""A folder as a source: which files are images, in which order, and what may lie in the way."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from fakes import write_image

from clip_qdrant.errors import ConfigError, ImageTooLarge, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.uris import path_of, to_uri
from clip_qdrant_ingestion.sources.protocol import OBJECTS_A_PAGE, Description, Problem, SourceObject
from clip_qdrant_ingestion.sources.tree.folder import FolderSource
from clip_qdrant_ingestion.sources.tree.selection import Selection
from clip_qdrant_ingestion.sources.tree.walk import Entry, TreeSource


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def names(source: TreeSource) -> list[str]:
    return [image.name for image in images(source)]


def images(source: TreeSource, folders: Collection[str] | None = None) -> list[SourceObject]:
    return [image for page in source.pages(folders) for image in page.objects]


def problems(source: TreeSource) -> list[Problem]:
    return [problem for page in source.pages() for problem in page.problems]


def test_images_are_found_in_all_folders_in_the_same_order_every_time(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.png", "c/d/e.webp", "a.JPEG", "c/a.gif", "B.tif")
    expected = ["B.tif", "a.JPEG", "b.jpg", "a/z.png", "c/a.gif", "c/d/e.webp"]
    assert names(FolderSource(tmp_path)) == expected
    assert names(FolderSource(str(tmp_path))) == expected


def test_files_that_are_no_images_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "notes.txt", "a.json", "movie.mp4", "jpg", ".hidden.jpg", ".cache/b.jpg", "Thumbs.db")
    assert names(FolderSource(tmp_path)) == ["a.jpg"]
    assert names(FolderSource(tmp_path, hidden=True)) == [".hidden.jpg", "a.jpg", ".cache/b.jpg"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.dat"], [], ["a.dat"]),
        (["*.JPG"], [], ["b.jpg", "x/c.jpg", "x/y/d.jpg"]),
        (["x/*"], [], ["x/c.jpg", "x/e.png"]),
        (["x/**"], [], ["x/c.jpg", "x/e.png", "x/y/d.jpg"]),
        (["**/*.jpg"], [], ["b.jpg", "x/c.jpg", "x/y/d.jpg"]),
        (["**/y/*"], [], ["x/y/d.jpg"]),
        (["?.png", "b*"], [], ["b.jpg", "x/e.png"]),
        (["[!bc].jpg"], [], ["x/y/d.jpg"]),
        ([], ["y"], ["b.jpg", "x/c.jpg", "x/e.png"]),
        ([], ["x/"], ["b.jpg"]),
        ([], ["x/y/"], ["b.jpg", "x/c.jpg", "x/e.png"]),
        ([], ["**/*.png", "b.*"], ["x/c.jpg", "x/y/d.jpg"]),
        (["*.jpg"], ["x/y/**"], ["b.jpg", "x/c.jpg"]),
        (["b.jp*g(1)"], [], []),
        (["[[]*", "[a&&b].jpg", "[]]*", "[!a-c].jpg"], [], ["b.jpg", "x/y/d.jpg"]),
        (["[c-e].*"], [], ["x/c.jpg", "x/e.png", "x/y/d.jpg"]),
        (["x[/]c.jpg"], [], []),
    ],
)
def test_globs_include_and_exclude(tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    touch(tmp_path, "a.dat", "b.jpg", "x/c.jpg", "x/e.png", "x/y/d.jpg")
    assert names(FolderSource(tmp_path, include=include, exclude=exclude)) == expected


def test_sidecars_and_other_files_are_no_images_unless_a_pattern_names_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "2024/a.jpg", "2024/a.txt", "2024/metadata.csv", "2024/a.mp4", "2024/scan.dat", "2024/3f9a")
    assert names(FolderSource(tmp_path, include=["2024/**"])) == ["2024/3f9a", "2024/a.jpg"]
    assert names(FolderSource(tmp_path, include=["*.dat", "*.txt"])) == ["2024/scan.dat"]
    described = {image.name: image.said.caption for image in images(FolderSource(tmp_path, include=["2024/**"]))}
    assert described == {"2024/3f9a": None, "2024/a.jpg": "x"}


def test_a_pattern_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'\[z-a\]\*'"):
        FolderSource(tmp_path, exclude=["[z-a]*"])


def test_the_same_folder_has_the_same_uris_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "photos/a.jpg", "work/notes.md")
    (tmp_path / "link").symlink_to(tmp_path / "photos", target_is_directory=True)
    monkeypatch.chdir(tmp_path / "work")
    source = FolderSource("../photos")
    assert source.name == FolderSource(tmp_path / "photos").name
    assert [image.uri for image in images(source)] == [to_uri(tmp_path / "photos/a.jpg")]
    assert FolderSource("../link").path == tmp_path / "link"


def test_an_excluded_folder_is_not_even_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "thumbs/b.jpg")
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(str(path)), scandir(path))[1])
    assert names(FolderSource(tmp_path, exclude=["thumbs"])) == ["a.jpg"]
    assert listed == [str(tmp_path)]


def test_loops_of_symbolic_links_end_and_nothing_is_listed_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.jpg", "c.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "c.jpg")
    assert names(FolderSource(tmp_path)) == ["c.jpg", "link.jpg", "a/b.jpg"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/b.jpg", "root/a.jpg")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names(FolderSource(tmp_path / "root")) == ["a.jpg", "link/b.jpg"]


def test_an_object_has_uri_size_and_mtime_and_reads_as_its_bytes(tmp_path: Path) -> None:
    for name in ("plain.png", "a b%41é#?.png", os.fsdecode(b"\xff.png")):
        path = write_image(tmp_path / "in ner" / name, "red")
        os.utime(path, (1_700_000_000, 1_700_000_000.5))
    source = FolderSource(tmp_path)
    listed = images(source)
    assert len(listed) == 3
    for image in listed:
        assert source.look(image) is image
        path = tmp_path / image.name
        assert image.uri == to_uri(path)
        assert image.uri.isascii()
        assert path_of(image.uri) == path
        assert (image.size, image.mtime) == (path.stat().st_size, 1_700_000_000.5)
        assert source.read(image, limits=Limits()) == path.read_bytes()
        with pytest.raises(ImageTooLarge):
            source.read(image, limits=Limits(max_bytes=10))


def test_the_name_of_a_source_is_its_uri_unless_given(tmp_path: Path) -> None:
    assert FolderSource(tmp_path).name == to_uri(tmp_path)
    assert FolderSource(tmp_path, name="holidays").name == "holidays"


def test_a_missing_folder_and_a_file_cannot_be_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(SourceError, match="not found"):
        images(FolderSource(tmp_path / "none"))
    with pytest.raises(SourceError, match="not a folder"):
        images(FolderSource(tmp_path / "a.jpg"))


def refuse_to_list(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_cannot_be_listed_is_a_problem_that_hides_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg", "z/c.jpg")
    refuse_to_list(monkeypatch, "locked")
    source = FolderSource(tmp_path)
    assert names(source) == ["a.jpg", "z/c.jpg"]
    detail = f"cannot list {tmp_path / 'locked'}: Permission denied"
    assert problems(source) == [Problem(to_uri(tmp_path / "locked"), "unreadable", detail, hides_objects=True)]


def test_a_root_that_cannot_be_listed_ends_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "locked/b.jpg")
    refuse_to_list(monkeypatch, "locked")
    with pytest.raises(SourceError, match="Permission denied"):
        images(FolderSource(tmp_path / "locked"))


def test_a_folder_that_vanishes_while_it_is_listed_hides_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg")
    source = FolderSource(tmp_path)
    scandir = os.scandir

    def vanish(path: Path) -> object:
        if Path(path).name == "sub":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanish)
    assert [(problem.reason, problem.hides_objects) for problem in problems(source)] == [("unreadable", True)]


def test_a_broken_sidecar_is_a_problem_that_hides_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.jpg")
    (tmp_path / "sub" / "a.json").write_text("{")
    (page,) = FolderSource(tmp_path).pages()
    (problem,) = page.problems
    assert (problem.uri, problem.reason) == (to_uri(tmp_path / "sub/a.json"), "bad metadata")
    assert problem.detail.startswith("sub/a.json: not JSON")
    assert not problem.hides_objects
    assert page.objects[0].said == Description(partial=True)


def test_of_a_folder_that_is_looked_at_only_the_way_to_it_is_listed(tmp_path: Path) -> None:
    paths = [
        "a/x/1.jpg",
        "a/x/y/2.jpg",
        "a b/x/3.jpg",
        "a-b/4.jpg",
        "a/5.jpg",
        "a0/6.jpg",
        "a/!/7.jpg",
        "8.jpg",
        "b/9.jpg",
    ]
    source = FolderSource(touch(tmp_path, *paths))
    every = names(source)
    for wanted in (["a/x"], ["a", "a/!", "a/x/y", "a b/x"], ["a-b", "a b/x", "a0", ""], ["none", "a/none/b", "b"], []):
        found = [image.name for image in images(source, wanted)]
        assert found == [name for name in every if name.rpartition("/")[0] in wanted]


def test_a_very_deep_name_costs_no_more_memory_than_its_length(tmp_path: Path) -> None:
    source, deep = FolderSource(touch(tmp_path, "a.jpg")), "a/" * 40_000 + "a"
    tracemalloc.start()
    try:
        assert images(source, [deep]) == []
        assert tracemalloc.get_traced_memory()[1] < 20 * len(deep)
    finally:
        tracemalloc.stop()


def test_pages_are_filled_across_folders_and_never_over_the_limit(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}/{number:04}.jpg" for folder in "abc" for number in range(OBJECTS_A_PAGE // 2 + 100)))
    pages = list(FolderSource(tmp_path).pages())
    assert [len(page.objects) for page in pages] == [OBJECTS_A_PAGE, 3 * (OBJECTS_A_PAGE // 2 + 100) - OBJECTS_A_PAGE]
    assert len({image.uri for page in pages for image in page.objects}) == sum(len(page.objects) for page in pages)


def test_an_empty_folder_has_no_pages(tmp_path: Path) -> None:
    assert list(FolderSource(tmp_path).pages()) == []


def test_the_images_of_a_large_folder_wait_in_a_file_until_their_sidecars_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(b"\xff.jpg")
    touch(tmp_path, *(f"{number}.jpg" for number in range(50)), odd, "x/a.jpg", "x/y/b.jpg", "z/c.jpg")
    (tmp_path / "0.txt").write_text("the first")
    (tmp_path / "metadata.csv").write_text("file,n\n49.jpg,49\nx/a.jpg,1\n")
    in_memory = list(FolderSource(tmp_path).pages())
    monkeypatch.setattr("clip_qdrant_ingestion.sources.tree.spool._IN_MEMORY", 10)
    assert list(FolderSource(tmp_path).pages()) == in_memory
    said = {image.name: image.said for page in in_memory for image in page.objects}
    assert len(said) == 54
    assert said["0.jpg"].caption == "the first"
    assert (said["49.jpg"].metadata, said["x/a.jpg"].metadata) == ({"n": 49}, {"n": 1})


def test_a_listing_that_finds_no_room_for_its_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.setattr("clip_qdrant_ingestion.sources.tree.spool._IN_MEMORY", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(SourceError, match="set TMPDIR to a folder with room"):
        images(FolderSource(tmp_path))


def test_of_named_folders_only_the_objects_directly_in_them_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "x/b.jpg", "x/y/c.jpg", "x/y/z/d.jpg", "w/e.jpg")
    (tmp_path / "metadata.csv").write_text("file,n\nx/y/c.jpg,3\nw/e.jpg,5\n")
    source = FolderSource(tmp_path)
    (found,) = images(source, ["x/y"])
    assert (found.name, found.said.metadata) == ("x/y/c.jpg", {"n": 3})
    assert [image.name for image in images(source, {"", "x"})] == ["a.jpg", "x/b.jpg"]
    assert [image.name for image in images(source, ["x", "x/y/z", "w"])] == ["w/e.jpg", "x/b.jpg", "x/y/z/d.jpg"]
    assert images(source, []) == []


def test_a_named_folder_that_is_gone_excluded_hidden_or_no_folder_has_no_objects(tmp_path: Path) -> None:
    touch(tmp_path, "root/a.jpg", "root/thumbs/small/b.jpg", "root/.trash/c.jpg", "d.jpg")
    source = FolderSource(tmp_path / "root", exclude=["thumbs"])
    wrong = ["gone", "gone/further", "thumbs", "thumbs/small", ".trash", "a.jpg", "..", "../root", "thumbs//small", "/"]
    assert list(source.pages(wrong)) == []
    assert [image.name for image in images(source, ["", *wrong])] == ["a.jpg"]
    with pytest.raises(SourceError, match="not found"):
        list(FolderSource(tmp_path / "none").pages(["x"]))


def test_tables_of_which_only_some_folders_are_listed_warn_of_no_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "x/a.jpg", "y/b.jpg")
    (tmp_path / "metadata.csv").write_text("file,n\nx/a.jpg,1\ny/b.jpg,2\n")
    assert len(images(FolderSource(tmp_path), ["x"])) == 1
    assert caplog.records == []


class BrokenTree:
    """a.jpg, bad/b.jpg, c/d.jpg, of which bad/ cannot be listed, and c/d.txt, which fails now and then."""

    reads_at_once = 2

    def __init__(self, error: SourceError, *, failures: int) -> None:
        self._error, self.failures = error, failures

    def identity(self, prefix: str) -> None:
        return None

    def entries(self, prefix: str) -> Iterator[Entry]:
        if prefix == "bad/":
            raise self._error
        inside = {"": ["a.jpg", "bad/", "c/"], "c/": ["d.jpg", "d.txt"]}
        for name in inside[prefix]:
            yield Entry(name.rstrip("/"), is_folder=name.endswith("/"))

    def object(self, prefix: str, entry: Entry) -> SourceObject:
        return SourceObject(self.uri(prefix + entry.name), prefix + entry.name)

    def uri(self, name: str) -> str:
        return f"broken://{name}"

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        if self.failures:
            self.failures -= 1
            raise SourceError("read timed out", transient=True)
        return b"a cat"


def test_a_transient_failure_of_a_folder_ends_the_listing_any_other_is_a_problem() -> None:
    lasting = BrokenTree(SourceError("forbidden"), failures=0)
    source = TreeSource(lasting, Selection(), name="broken")
    assert [(image.name, image.said.caption) for image in images(source)] == [("a.jpg", None), ("c/d.jpg", "a cat")]
    assert problems(source) == [Problem("broken://bad", "unreadable", "forbidden", hides_objects=True)]
    passing = BrokenTree(SourceError("no answer", transient=True), failures=0)
    with pytest.raises(SourceError, match="no answer"):
        images(TreeSource(passing, Selection(), name="broken"))


def test_sidecars_are_read_again_after_a_transient_failure_within_the_patience() -> None:
    def said(patience: float) -> Description:
        flaky = BrokenTree(SourceError("forbidden"), failures=2)
        return images(TreeSource(flaky, Selection(), name="broken", patience=patience))[-1].said

    assert said(60) == Description("a cat")
    assert said(0) == Description(partial=True)


class FlatTree:
    """So many images in one folder, which come into being as they are listed."""

    reads_at_once = 1

    def __init__(self, count: int) -> None:
        self._count = count

    def identity(self, prefix: str) -> None:
        return None

    def entries(self, prefix: str) -> Iterator[Entry]:
        for number in range(self._count):
            yield Entry(f"{number:07}.jpg", False, number, float(number), f"{number:032x}")

    def object(self, prefix: str, entry: Entry) -> SourceObject:
        name = prefix + entry.name
        return SourceObject(self.uri(name), name, size=entry.size, mtime=entry.mtime, etag=entry.etag)

    def uri(self, name: str) -> str:
        return f"flat://{name}"

    def read(self, item: SourceObject, *, limits: Limits) -> bytes:
        raise SourceError("nothing to read")


@pytest.mark.slow
def test_the_memory_of_a_listing_does_not_grow_with_the_images_of_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_qdrant_ingestion.sources.tree.spool._IN_MEMORY", 1000)

    def peak(count: int) -> float:
        source = TreeSource(FlatTree(count), Selection(), name="flat")
        tracemalloc.start()
        try:
            assert sum(len(page.objects) for page in source.pages()) == count
            return tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()

    assert peak(12_000) < peak(6000) + 0.5
