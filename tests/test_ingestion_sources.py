"""A folder as a source: which files are images, in which order, and what may lie in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fakes import write_image

from clip_qdrant.errors import ConfigError, ImageTooLarge, SourceError
from clip_qdrant.images import Limits
from clip_qdrant.records import path_of, to_uri
from clip_qdrant_ingestion import FolderSource


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def names(source: FolderSource) -> list[str]:
    return [image.name for folder in source.folders() for image in folder.images]


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
    (folder,) = [folder for folder in FolderSource(tmp_path, include=["2024/**"]).folders() if folder.images]
    assert sorted(folder.sidecars) == ["a.txt", "metadata.csv"]


def test_a_pattern_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'\[z-a\]\*'"):
        FolderSource(tmp_path, exclude=["[z-a]*"])


def test_the_same_folder_has_the_same_uris_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "photos/a.jpg", "work/notes.md")
    (tmp_path / "link").symlink_to(tmp_path / "photos", target_is_directory=True)
    monkeypatch.chdir(tmp_path / "work")
    source = FolderSource("../photos")
    assert source.name == FolderSource(tmp_path / "photos").name
    assert [image.uri for folder in source.folders() for image in folder.images] == [to_uri(tmp_path / "photos/a.jpg")]
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


def test_a_dangling_link_is_listed_and_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    source = FolderSource(tmp_path)
    images = [image for folder in source.folders() for image in folder.images]
    assert [(image.name, image.size, image.mtime) for image in images] == [
        ("gone.jpg", None, None),
        ("loop.jpg", None, None),
    ]
    for image in images:
        with pytest.raises(SourceError, match=image.name):
            source.read(image, limits=Limits())


def test_an_object_has_uri_size_and_mtime_and_reads_as_its_bytes(tmp_path: Path) -> None:
    for name in ("plain.png", "a b%41é#?.png", os.fsdecode(b"\xff.png")):
        path = write_image(tmp_path / "in ner" / name, "red")
        os.utime(path, (1_700_000_000, 1_700_000_000.5))
    source = FolderSource(tmp_path)
    images = [image for folder in source.folders() for image in folder.images]
    assert len(images) == 3
    for image in images:
        path = tmp_path / image.name
        assert image.uri == to_uri(path)
        assert image.uri.isascii()
        assert path_of(image.uri) == path
        assert (image.size, image.mtime) == (path.stat().st_size, 1_700_000_000.5)
        assert source.read(image, limits=Limits()) == path.read_bytes()
        with pytest.raises(ImageTooLarge):
            source.read(image, limits=Limits(max_bytes=10))


def test_sidecars_are_listed_with_their_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.txt", "metadata.csv", "sub/b.jpg", "sub/b.json", "sub/c.mp3")
    assert [(folder.name, sorted(folder.sidecars)) for folder in FolderSource(tmp_path).folders()] == [
        ("", ["a.txt", "metadata.csv"]),
        ("sub", ["b.json"]),
    ]


def test_the_name_of_a_source_is_its_uri_unless_given(tmp_path: Path) -> None:
    assert FolderSource(tmp_path).name == to_uri(tmp_path)
    assert FolderSource(tmp_path, name="holidays").name == "holidays"


def test_a_missing_folder_and_a_file_cannot_be_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(SourceError, match="not found"):
        list(FolderSource(tmp_path / "none").folders())
    with pytest.raises(SourceError, match="not a folder"):
        list(FolderSource(tmp_path / "a.jpg").folders())


def test_a_folder_that_cannot_be_listed_comes_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.jpg", "locked/b.jpg", "z/c.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    folders = list(FolderSource(tmp_path).folders())
    assert [(folder.name, folder.error is not None) for folder in folders] == [
        ("", False),
        ("locked", True),
        ("z", False),
    ]
    assert "Permission denied" in str(folders[1].error)
