"""What `clip-qdrant search` shows of images: columns, dates, places, members of archives, paths for other programs."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import solid_image, write_image
from PIL import Image
from program import Program, program_in
from s3 import new_bucket


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    with program_in(tmp_path, monkeypatch) as program:
        yield program


@pytest.fixture
def photo(program: Program) -> Path:
    path = program.folder / "trips" / "rome" / "red.jpg"
    path.parent.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0110] = "X100"
    photo_tags, gps = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    photo_tags[0x9003], photo_tags[0x9011], photo_tags[0x829A] = "2024:12:31 23:30:10", "-05:00", 0.01
    gps.update({1: "N", 2: (41.0, 53.0, 24.0), 3: "E", 4: (12.0, 29.0, 24.0)})
    solid_image("red").save(path, exif=exif)
    (path.parent / "red.json").write_text('{"caption": "a red thing", "album": "rome"}')
    assert program("ingest", "trips").code == 0
    return path


def cells(program: Program, *arguments: str) -> dict[str, str]:
    heading, _, row = (
        [cell.strip() for cell in line.split("|")]
        for line in program("search", "red", *arguments).out.splitlines()[1:4]
    )
    return dict(zip(heading, row, strict=True))


@pytest.mark.usefixtures("photo")
def test_the_table_has_date_and_place_and_not_how_the_camera_was_set(program: Program) -> None:
    row = cells(program)

    assert row["taken"] == "2024-12-31 23:30"
    assert row["place"] == "41.8900, 12.4900"
    assert row["image"] == "trips/rome/red.jpg"
    assert row["metadata"] == "album=rome"


@pytest.mark.usefixtures("photo")
def test_columns_are_chosen_by_name(program: Program) -> None:
    row = cells(program, "--columns", "album, exposure_time,image.width,folder,name")

    assert row == {
        "album": "rome",
        "exposure_time": "0.01",
        "image.width": "24",
        "folder": str(program.folder / "trips" / "rome"),
        "name": "red.jpg",
    }


def test_columns_are_named_as_fields_are_in_a_filter(program: Program) -> None:
    write_image(program.folder / "photos" / "red.png", "red")
    fields = {"exif": {"camera": "X100"}, "odd name": 7, "fingerprint": "own", "caption": "a thing"}
    (program.folder / "photos" / "red.json").write_text(json.dumps(fields))
    assert program("ingest", "photos").code == 0

    row = cells(program, "--columns", "exif.camera,odd name,metadata.fingerprint")
    assert row == {"exif.camera": "X100", "odd name": "7", "metadata.fingerprint": "own"}
    assert cells(program, "--columns", "`odd name`")["`odd name`"] == "7"
    assert cells(program, "--columns", "fingerprint")["fingerprint"] == program.embedder.fingerprint
    assert "`odd name`" in program("search", "red", "--columns", "nope").err


@pytest.mark.usefixtures("photo")
@pytest.mark.parametrize("columns", ["albun", "", "score,image.colour"])
def test_a_column_that_there_is_not_is_refused_with_those_there_are(program: Program, columns: str) -> None:
    outcome = program("search", "red", "--columns", columns)

    assert outcome.code == 2
    assert "taken" in outcome.err
    assert "album" in outcome.err


@pytest.mark.usefixtures("photo")
@pytest.mark.parametrize("options", [("--paths", "--json"), ("--columns", "score", "--json")])
def test_one_way_to_print_is_asked_for(program: Program, options: tuple[str, ...]) -> None:
    assert program("search", "red", *options).code == 2


def test_json_has_the_path(program: Program, photo: Path) -> None:
    assert program("search", "red", "--json").json["hits"][0]["path"] == str(photo)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_paths_are_printed_alone_and_byte_for_byte(
    program: Program, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clip_qdrant.cli import run

    odd = write_image(program.folder / "trips" / "caf\udce9 \x1b[1m.png", "blue")
    assert program("ingest", "trips").code == 0
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)

    assert run(["search", "red", "--paths"]) == 0
    assert out.buffer.getvalue().split(b"\n") == [os.fsencode(photo), os.fsencode(odd), b""]


def write_archive(path: Path) -> bytes:
    with tarfile.open(path, "w") as archive:
        for name, colour in (("below/one red.png", "red"), ("two.png", "blue")):
            data = io.BytesIO()
            solid_image(colour).save(data, "PNG")
            member = tarfile.TarInfo(name)
            member.size = len(data.getvalue())
            archive.addfile(member, io.BytesIO(data.getvalue()))
    return path.read_bytes()


def test_members_of_archives_have_their_names_and_previews(program: Program) -> None:
    write_archive(program.folder / "shard-0.tar")
    assert program("ingest", "shard-0.tar").code == 0

    assert cells(program)["image"] == "shard-0.tar#below/one red.png"
    assert cells(program, "--columns", "name")["name"] == "one red.png"
    (first, second) = program("search", "red", "--json").json["hits"]
    assert (first["path"], second["path"]) == (None, None)
    assert program("search", "red", "--paths").out.splitlines()[0] == first["uri"]
    program("search", "red", "--html", "page.html")
    page = (program.folder / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert ">one red.png</a>" in page
    assert "shard-0.tar#below</p>" in page


def test_an_archive_that_is_gone_or_changed_has_no_previews(program: Program) -> None:
    write_archive(program.folder / "shard-0.tar")
    program("ingest", "shard-0.tar")
    for change in (lambda path: path.write_bytes(b"another"), Path.unlink):
        change(program.folder / "shard-0.tar")
        assert program("search", "red", "--html", "page.html").code == 0
        page = (program.folder / "page.html").read_text()
        assert "data:image/jpeg" not in page
        assert page.count("no preview") == 2


def test_objects_of_a_bucket_and_members_of_archives_there_have_previews(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket(monkeypatch)
    bucket.put("photos/a b#1.png", write_image(program.folder / "red.png", "red").read_bytes())
    bucket.put("shards/shard-0.tar", write_archive(program.folder / "shard-0.tar"))
    for source in ("photos", "shards/shard-0.tar"):
        outcome = program("ingest", f"{bucket.url}/{source}")
        assert outcome.code == 0, outcome.err

    program("search", "red", "--html", "page.html")

    page = (program.folder / "page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3
    assert "a b#1.png" in page
