"""Damage in tar archives: it is told wherever it lies, deletes nothing, and costs no file beside it."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes import FakeEmbedder, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion import ingest
from clip_qdrant_ingestion.sources.archives.archive import ShardSource
from clip_qdrant_ingestion.sources.protocol import Problem, SourceObject

SIZE = 9000  # of an image; with its header it takes 19 blocks


def pack(files: Sequence[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target.getvalue()


def numbered(count: int, size: int = SIZE) -> list[tuple[str, bytes]]:
    return [(f"{number:04}.jpg", bytes([number % 255 + 1]) * size) for number in range(count)]


def listed(path: Path) -> tuple[list[SourceObject], list[Problem]]:
    pages = list(ShardSource(path).pages())
    return [item for page in pages for item in page.objects], [one for page in pages for one in page.problems]


def with_zeros(data: bytes, start: int, size: int) -> bytes:
    return data[:start] + bytes(size) + data[start + size :]


def header_of(data: bytes, name: str) -> int:
    return data.index(name.encode())


@pytest.mark.parametrize("packs", [False, True])
def test_a_page_of_zeros_at_a_header_costs_its_file_and_is_told(tmp_path: Path, packs: bool) -> None:
    data = pack(numbered(20))
    data = with_zeros(data, header_of(data, "0007.jpg"), 4096)
    (tmp_path / "a.tar").write_bytes(gzip.compress(data) if packs else data)
    objects, problems = listed(tmp_path / "a.tar")
    assert [item.name for item in objects] == [name for name, _ in numbered(20) if name != "0007.jpg"]
    assert [one.hides_objects for one in problems] == [True]
    assert "it goes on: a hole of zeros" in problems[0].detail


@pytest.mark.parametrize("size", [20_000, 64_000, 120_000])
@pytest.mark.parametrize("packs", [False, True])
def test_zeros_from_somewhere_on_are_not_taken_for_the_padding_of_an_archive(
    tmp_path: Path, size: int, packs: bool
) -> None:
    data = pack(numbered(20))
    data = with_zeros(data, len(data) - size, size)
    (tmp_path / "a.tar").write_bytes(gzip.compress(data) if packs else data)
    objects, problems = listed(tmp_path / "a.tar")
    assert 5 < len(objects) < 20
    assert [one.hides_objects for one in problems] == [True]


def test_zeros_that_begin_within_the_last_small_files_are_damage(tmp_path: Path) -> None:
    data = pack(numbered(6, 1500))  # of 2048 bytes each, and padding
    data = with_zeros(data, header_of(data, "0004.jpg") + 512 + 100, len(data) - header_of(data, "0004.jpg") - 612)
    (tmp_path / "a.tar").write_bytes(data)
    objects, problems = listed(tmp_path / "a.tar")
    assert len(objects) == 5
    assert "from within '0004.jpg' on it is all zeros" in problems[0].detail


@pytest.mark.parametrize("size", [50, 4000, 60_000])
@pytest.mark.parametrize("place", [0.3, 0.6, 1.0])
def test_zeros_in_a_packed_archive_are_told(tmp_path: Path, size: int, place: float) -> None:
    data = pack([(name, os.urandom(SIZE)) for name, _ in numbered(20)])
    packed = gzip.compress(data)
    start = int((len(packed) - size) * place)
    (tmp_path / "a.tar.gz").write_bytes(with_zeros(packed, start, size))
    _, problems = listed(tmp_path / "a.tar.gz")
    assert [one.hides_objects for one in problems] == [True]


def test_the_check_of_a_packed_archive_is_made(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(pack(numbered(3))))
    packed[-8] ^= 1  # of the checksum
    (tmp_path / "a.tar.gz").write_bytes(packed)
    objects, problems = listed(tmp_path / "a.tar.gz")
    assert len(objects) == 3
    assert "CRC" in problems[0].detail


@pytest.mark.parametrize("record", [512, 10240, 1 << 16, 1 << 20])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_an_archive_may_be_padded_to_its_records(tmp_path: Path, record: int, count: int) -> None:
    files = numbered(count)
    body = pack(files)[: count * (512 + -(-SIZE // 512) * 512)] + bytes(1024)
    (tmp_path / "a.tar").write_bytes(body + bytes(-len(body) % record))
    objects, problems = listed(tmp_path / "a.tar")
    assert ([item.name for item in objects], problems) == ([name for name, _ in files], [])


def test_one_block_of_zeros_is_no_end(tmp_path: Path) -> None:
    body = pack(numbered(2))[: 2 * (512 + -(-SIZE // 512) * 512)]
    (tmp_path / "a.tar").write_bytes(body + bytes(512))
    objects, problems = listed(tmp_path / "a.tar")
    assert len(objects) == 2
    assert "without the mark of its end" in problems[0].detail


def pax(body: bytes) -> bytes:
    header = tarfile.TarInfo("PaxHeader")
    header.type, header.size = b"x", len(body)
    return header.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n"
    size = next(size for size in range(len(rest), len(rest) + 9) if size == len(rest) + len(str(size)))
    return f"{size}{rest}".encode()


@pytest.mark.parametrize(
    "body",
    [
        record("size", "1" + "0" * 20),
        record("size", "-1"),
        record("size", "x"),
        record("path", ""),
        bytes(200),
        b"7 path=",
        b"99999 path=a.jpg\n",
        b"0 a=\n",
        record("path", "long.jpg")[:-1] + b"x",
    ],
)
def test_what_speaks_of_one_file_costs_that_file_alone(tmp_path: Path, body: bytes) -> None:
    first, second, third = (pack([(f"{letter}.jpg", b"x")])[:1024] for letter in "abc")
    (tmp_path / "a.tar").write_bytes(first + pax(body) + second + third + bytes(1024))
    (tmp_path / "b.tar").write_bytes(pack([("after.jpg", b"x")]))
    objects, problems = listed(tmp_path)
    assert [item.name for item in objects] == ["a.jpg", "c.jpg", "after.jpg"]
    assert [one.hides_objects for one in problems] == [True]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_hole_in_a_long_name_lists_no_file_under_another_name(tmp_path: Path, form: int) -> None:
    name = "long/" * 30 + "b.jpg"
    data = pack([("a.jpg", b"x"), (name, b"x"), ("c.jpg", b"x")], form)
    start = 1024 if form == tarfile.GNU_FORMAT else header_of(data, "././@PaxHeader")
    for begin, size in ((start, 512), (start + 512, 512)):
        (tmp_path / "a.tar").write_bytes(with_zeros(data, begin, size))
        objects, problems = listed(tmp_path / "a.tar")
        assert [item.name for item in objects] == ["a.jpg", "c.jpg"]
        assert [one.hides_objects for one in problems] == [True]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.binary(min_size=1, max_size=600)), max_size=4),
    st.integers(0, 25_000),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.booleans(),
)
def test_any_bytes_in_an_archive_give_objects_that_can_be_read_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]], end: int, form: int, packs: bool
) -> None:
    data = bytearray(pack([*numbered(4, 700), ("ä" * 120 + ".jpg", b"long"), ("1.txt", b"apart")], form))
    for place, change in changes:
        data[place : place + len(change)] = change
    content = gzip.compress(bytes(data[:end]), 1) if packs else bytes(data[:end])
    path = tmp_path_factory.mktemp("fuzz") / "a.tar"
    path.write_bytes(content)
    source = ShardSource(path)
    try:
        objects, _ = listed(path)
    except SourceError:
        return
    for item in objects:
        assert len(source.read(item, limits=Limits())) == item.size


def test_damage_deletes_nothing(tmp_path: Path, memory_client: QdrantBase) -> None:
    colours = ("red", "green", "blue", "yellow")
    data = pack([(f"{colour}.png", write_image(tmp_path / "x.png", colour).read_bytes()) for colour in colours])
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    images = ImageCollection("photos", FakeEmbedder(), memory_client)
    assert ingest(ShardSource(path), images, delete=True).added == 4
    path.write_bytes(with_zeros(data, header_of(data, "blue.png"), 512))
    report = ingest(ShardSource(path), images, delete=True, max_delete=1.0)
    assert (images.count(), report.deleted) == (4, 0)
