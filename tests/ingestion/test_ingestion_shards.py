"""Images in tar archives: samples and their sidecars, the versions of images, damage, and reading from any place."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from s3 import FlakyProxy, new_bucket
from web import Reply, WebSite

from clip_qdrant.errors import ConfigError, ImageTooLarge, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.tables.braces import expand_braces
from clip_qdrant.uris import to_uri
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion.sources.archives.archive import ShardSource
from clip_qdrant_ingestion.sources.protocol import Description, Page, Problem, SourceObject

LIMITS = Limits()
Files = Sequence[tuple[str, bytes | str]]


@pytest.fixture
def site() -> Iterator[WebSite]:
    with WebSite().running() as site:
        yield site


def packed(files: Files, *, form: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for name, content in files:
            data = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target.getvalue()


def shard(path: Path, files: Files) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = packed(files)
    path.write_bytes(gzip.compress(data) if path.suffix in (".gz", ".tgz") else data)
    return path


def listed(source: ShardSource) -> tuple[list[SourceObject], list[Problem]]:
    pages = list(source.pages())
    return [item for page in pages for item in page.objects], [one for page in pages for one in page.problems]


def images(count: int, size: int = 900) -> list[tuple[str, bytes]]:
    return [(f"{number:04}.jpg", random.Random(number).randbytes(size)) for number in range(count)]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_the_files_of_a_sample_describe_its_image(tmp_path: Path, name: str) -> None:
    files = [
        ("in/0001.cls", "3"),
        ("in/0001.jpg", b"one"),
        ("in/0001.json", json.dumps({"caption": "json", "year": 2024, "metadata": {"a": {"b": None}}})),
        ("in/0001.txt", " text \n"),
        ("in/0002.txt", "\ufeffsecond"),
        ("in/0002.png", b"two"),
        ("in/0003.jpg", b"three"),
    ]
    source = ShardSource(shard(tmp_path / name, files))
    objects, problems = listed(source)
    assert [item.said for item in objects] == [
        Description("text", {"year": 2024, "a": {}}, {"class": "3"}),
        Description("second"),
        Description(),
    ]
    assert [item.name for item in objects] == ["in/0001.jpg", "in/0002.png", "in/0003.jpg"]
    assert [source.read(item, limits=LIMITS) for item in objects] == [b"one", b"two", b"three"]
    assert not problems


def test_a_uri_is_that_of_the_archive_and_the_escaped_path_in_it(tmp_path: Path) -> None:
    names = ["a/b c.jpg", "#1?%.jpg", "ä.jpg", "two\nlines.jpg", os.fsdecode(b"\xff.jpg"), "./dot.jpg"]
    path = shard(tmp_path / "a#b.tar", [(name, name.encode("utf-8", "surrogateescape")) for name in names])
    source = ShardSource(path)
    objects, _ = listed(source)
    fragments = ["a/b%20c.jpg", "%231%3F%25.jpg", "%C3%A4.jpg", "two%0Alines.jpg", "%FF.jpg", "dot.jpg"]
    assert [item.uri for item in objects] == [f"{to_uri(path)}#{fragment}" for fragment in fragments]
    assert [source.read(item, limits=LIMITS) for item in objects] == [
        name.encode("utf-8", "surrogateescape") for name in names
    ]


def test_a_sample_of_several_images_shares_what_is_said_of_the_sample(tmp_path: Path) -> None:
    files: Files = [
        ("1.left.jpg", b"l"),
        ("1.right.jpg", b"r"),
        ("1.json", '{"shop": "x", "side": "?"}'),
        ("1.left.json", '{"side": "left"}'),
    ]
    objects, _ = listed(ShardSource(shard(tmp_path / "a.tar", files)))
    assert [item.said.metadata for item in objects] == [{"shop": "x", "side": "left"}, {"shop": "x", "side": "?"}]


def test_what_is_no_image_and_what_is_hidden_is_left_out(tmp_path: Path) -> None:
    files: Files = [
        (".hidden.jpg", b"h"),
        ("a/._0001.jpg", b"mac"),
        ("__meta__.jpg", b"m"),
        ("0001.npy", b"n"),
        ("README", b"r"),
        ("0001.JPG", b"i"),
    ]
    objects, problems = listed(ShardSource(shard(tmp_path / "a.tar", files)))
    assert [item.name for item in objects] == ["0001.JPG"]
    assert not problems


def test_a_broken_sidecar_is_a_problem_and_its_image_is_listed(tmp_path: Path) -> None:
    files: Files = [
        ("1.jpg", b"1"),
        ("1.json", "not json"),
        ("2.jpg", b"2"),
        ("2.txt", b"\xff"),
        ("3.jpg", b"3"),
        ("3.json", b" " * 2_000_000),
    ]
    path = shard(tmp_path / "a.tar", files)
    objects, problems = listed(ShardSource(path))
    assert [(item.name, item.said.partial) for item in objects] == [("1.jpg", True), ("2.jpg", True), ("3.jpg", True)]
    assert [problem.uri.rpartition("#")[2] for problem in problems] == ["1.json", "2.txt", "3.json"]
    assert {(problem.reason, problem.hides_objects) for problem in problems} == {("bad metadata", False)}


def test_the_version_of_an_image_changes_with_its_archive_alone(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", images(3))
    first, _ = listed(ShardSource(path))
    again, _ = listed(ShardSource(path))
    assert [item.etag for item in first] == [item.etag for item in again]
    assert len({item.etag for item in first}) == 3
    os.utime(path, (5, 5))
    touched, _ = listed(ShardSource(path))
    assert not {item.etag for item in touched} & {item.etag for item in first}


def test_a_local_archive_is_read_where_the_images_lie_and_others_are_streamed(tmp_path: Path) -> None:
    local, _ = listed(ShardSource(shard(tmp_path / "a.tar", images(3))))
    streamed, _ = listed(ShardSource(shard(tmp_path / "b.tar.gz", images(3))))
    assert [item.content for item in local] == [None] * 3
    assert [item.content for item in streamed] == [content for _, content in images(3)]


def test_an_archive_that_changed_since_it_was_listed_is_not_read(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", images(3))
    source = ShardSource(path)
    objects, _ = listed(source)
    shard(path, images(5))
    os.utime(path, (5, 5))
    with pytest.raises(SourceError, match="changed since it was listed"):
        source.read(objects[0], limits=LIMITS)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_an_image_is_found_by_its_uri_alone(tmp_path: Path, name: str) -> None:
    path = shard(tmp_path / name, images(5))
    source = ShardSource(path)
    assert source.read(SourceObject(f"{to_uri(path)}#0003.jpg", "0003.jpg"), limits=LIMITS) == images(5)[3][1]
    with pytest.raises(SourceError, match="not in the archive"):
        source.read(SourceObject(f"{to_uri(path)}#9.jpg", "9.jpg"), limits=LIMITS)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_an_image_over_the_limit_is_too_large(tmp_path: Path, name: str) -> None:
    path = shard(tmp_path / name, images(1, 5000))
    source = ShardSource(path)
    objects, _ = listed(source)
    for item in (objects[0], SourceObject(objects[0].uri, "0000.jpg")):
        with pytest.raises(ImageTooLarge, match="5000 bytes; the limit is 4999"):
            source.read(item, limits=Limits(max_bytes=4999))


def test_pages_hold_little_content_and_a_large_image_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_qdrant_ingestion.sources.archives.samples.CONTENT_A_PAGE", 10_000)
    monkeypatch.setattr("clip_qdrant_ingestion.sources.archives.archive.CONTENT_A_PAGE", 10_000)
    files = [*images(30, 3000), ("large.jpg", b"x" * 50_000), ("z.jpg", b"z")]
    source = ShardSource(shard(tmp_path / "a.tar.gz", files))
    pages: list[Page] = list(source.pages())
    assert max(sum(len(item.content or b"") for item in page.objects) for page in pages) <= 10_000
    objects = [item for page in pages for item in page.objects]
    assert [item.name for item in objects if item.content is None] == ["large.jpg"]
    assert [source.read(item, limits=LIMITS) for item in objects] == [content for _, content in files]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_all_images_of_a_large_sample_come_with_their_content_and_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("clip_qdrant_ingestion.sources.archives.samples.CONTENT_A_PAGE", 10_000)
    monkeypatch.setattr("clip_qdrant_ingestion.sources.archives.archive.CONTENT_A_PAGE", 10_000)
    views = [(f"a.{number}.jpg", content) for number, (_, content) in enumerate(images(9, 3000))]
    bucket = new_bucket(monkeypatch)
    data = packed([*views, ("a.json", '{"shop": "x"}'), ("b.jpg", b"b")])
    bucket.put(name, gzip.compress(data) if name.endswith(".gz") else data)
    pages = list(ShardSource(f"{bucket.url}/{name}").pages())
    objects = [item for page in pages for item in page.objects]
    assert [item.content for item in objects] == [*(content for _, content in views), b"b"]
    assert [item.said.metadata for item in objects] == [{"shop": "x"}] * 9 + [{}]
    assert max(sum(len(item.content or b"") for item in page.objects) for page in pages) <= 10_000


def test_a_sample_of_many_sidecars_says_that_not_all_were_read(tmp_path: Path) -> None:
    text = "x" * 1_000_000
    files: Files = [("a.jpg", b"a"), *((f"a.{number}.txt", text) for number in range(64)), ("b.jpg", b"b")]
    path = shard(tmp_path / "a.tar.gz", files)
    tracemalloc.start()
    try:
        objects, problems = listed(ShardSource(path))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [(item.name, item.said.partial) for item in objects] == [("a.jpg", True), ("b.jpg", False)]
    assert len(problems) == 1
    assert "a.4.txt: its sample 'a' has more than" in problems[0].detail
    assert most < 20 << 20


def test_a_page_holds_little_text(tmp_path: Path) -> None:
    text = "x" * 1_000_000
    files = [(f"{number}.{suffix}", text) for number in range(100) for suffix in ("jpg", "txt")]
    pages = list(ShardSource(shard(tmp_path / "a.tar", files)).pages())
    assert max(sum(len(item.said.caption or "") for item in page.objects) for page in pages) <= 32 << 20
    assert sum(len(page.objects) for page in pages) == 100


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_an_image_that_is_a_link_or_sparse_is_a_problem(tmp_path: Path, suffix: str) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, kind in (("a.jpg", b"0"), ("a.txt", b"2"), ("b.jpg", b"1"), ("c.jpg", b"2"), ("d.npy", b"2")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "" if kind == b"0" else "a.jpg"
            tar.addfile(member)
    data = target.getvalue()[: 5 * 512] + odd_archives()["sparse"] + block("z.jpg", b"0", b"z") + bytes(1024)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(data) if suffix == ".tar.gz" else data)
    source = ShardSource(path)
    objects, problems = listed(source)
    assert [item.name for item in objects] == ["a.jpg", "z.jpg"]
    assert [(one.uri.rpartition("#")[2], one.reason, one.hides_objects) for one in problems] == [
        ("a.txt", "bad metadata", False),
        ("b.jpg", "unreadable", True),
        ("c.jpg", "unreadable", True),
        ("sparse.jpg", "unreadable", True),
    ]
    assert "b.jpg is a hard link to 'a.jpg'; pack the archive" in problems[1].detail
    with pytest.raises(SourceError, match="not in the archive"):
        source.read(SourceObject(f"{to_uri(path)}#b.jpg", "b.jpg"), limits=LIMITS)


def block(name: str, kind: bytes, content: bytes) -> bytes:
    """One member of an archive."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content)
    return member.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512)


def pax(**records: str) -> bytes:
    """A header of PAX records, "_" for "." in their names."""
    body = b""
    for name, value in records.items():
        record = f" {name.replace('_', '.')}={value}\n".encode()
        size = next(size for size in range(len(record), len(record) + 9) if size == len(record) + len(str(size)))
        body += str(size).encode() + record
    return block("PaxHeader", b"x", body)


def odd_archives() -> dict[str, bytes]:
    """Headers that tarfile has no error of its own for, and a good sparse file."""
    image = block("b.jpg", b"0", b"x" * 512)
    return {
        "chain": block("././@LongLink", b"L", b"b\0") * 2000 + image,
        "map": pax(GNU_sparse_map="a,b") + image,
        "size": pax(GNU_sparse_size="zz") + image,
        "version 1.0": pax(GNU_sparse_major="1", GNU_sparse_minor="0") + block("b.jpg", b"0", b"zz" * 256),
        "sparse": pax(GNU_sparse_map="0,512", GNU_sparse_size="99999") + block("sparse.jpg", b"0", b"x" * 512),
    }


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("kind", ["chain", "map", "size", "version 1.0"])
def test_an_odd_header_costs_its_file_and_no_other(tmp_path: Path, kind: str, suffix: str) -> None:
    odd = odd_archives()[kind] + block("behind.jpg", b"0", b"x") + b"\0" * 1024
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(odd) if suffix == ".tar.gz" else odd)
    shard(tmp_path / f"c{suffix}", [("after.jpg", b"x")])
    objects, problems = listed(ShardSource(tmp_path))
    assert [item.name for item in objects] == ["behind.jpg", "after.jpg"]
    assert [(one.uri.partition("#")[0], one.hides_objects) for one in problems] == [
        (to_uri(tmp_path / f"a{suffix}"), True)
    ]


def test_a_sidecar_that_nests_without_end_is_a_problem(tmp_path: Path) -> None:
    deep = f'{{"x": {"[" * 500}{"]" * 500}}}'
    path = shard(tmp_path / "a.tar", [("1.jpg", b"1"), ("1.json", deep), ("2.jpg", b"2")])
    objects, problems = listed(ShardSource(path))
    assert [(item.name, item.said.partial) for item in objects] == [("1.jpg", True), ("2.jpg", False)]
    assert "deeper than 32 levels" in problems[0].detail


def test_the_suffix_of_an_archive_may_be_in_capitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "A.TAR", images(1))
    (tmp_path / "B.TGZ").write_bytes(gzip.compress(packed(images(1))))
    assert len(listed(ShardSource(tmp_path))[0]) == 2
    bucket = new_bucket(monkeypatch)
    bucket.put("set/A.TAR", packed(images(1)))
    for location in ("set", "set/A.TAR"):
        assert len(listed(ShardSource(f"{bucket.url}/{location}"))[0]) == 1


def test_a_location_that_the_system_refuses_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot list .*: File name too long"):
        listed(ShardSource(tmp_path / ("x" * 300 + ".tar")))


def test_a_sample_without_end_comes_in_pieces(tmp_path: Path) -> None:
    files: Files = [(f"a.{number}.jpg", b"x") for number in range(2500)]
    pages = list(ShardSource(shard(tmp_path / "a.tar", files)).pages())
    assert [len(page.objects) for page in pages] == [1000, 1000, 500]


def test_a_file_that_is_in_an_archive_twice_is_listed_once(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", [("1.jpg", b"first"), ("2.jpg", b"x"), ("1.jpg", b"second")])
    source = ShardSource(path)
    objects, problems = listed(source)
    assert [source.read(item, limits=LIMITS) for item in objects] == [b"first", b"x"]
    assert "twice" in problems[0].detail


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_format(tmp_path: Path, form: int) -> None:
    name = f"{'d' * 90}/{'n' * 90}.jpg"
    (tmp_path / "a.tar").write_bytes(packed([(name, b"x" * 700), ("z.jpg", b"z")], form=form))
    source = ShardSource(tmp_path / "a.tar")
    objects, problems = listed(source)
    assert [item.name for item in objects] == [name, "z.jpg"]
    assert source.read(objects[0], limits=LIMITS) == b"x" * 700
    assert not problems


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize(
    ("keep", "survive"),
    [(3 * 1536, 3), (3 * 1536 + 512, 3), (3 * 1536 + 800, 3), (3 * 1536 + 100, 3), (10 * 1536, 10), (1000, 0)],
)
def test_a_truncated_archive_gives_the_images_before_its_end(
    tmp_path: Path, suffix: str, keep: int, survive: int
) -> None:
    data = packed(images(10))[:keep]  # 512 bytes of header and 1024 of content each
    (tmp_path / f"a{suffix}").write_bytes(gzip.compress(data) if suffix == ".tar.gz" else data)
    shard(tmp_path / f"b{suffix}", [("after.jpg", b"x")])
    objects, problems = listed(ShardSource(tmp_path))
    assert [item.name for item in objects] == [*(name for name, _ in images(survive)), "after.jpg"]
    assert [(one.uri, one.reason, one.hides_objects) for one in problems] == [
        (to_uri(tmp_path / f"a{suffix}"), "unreadable", True)
    ]


@pytest.mark.parametrize("packs", [False, True])
def test_damage_in_the_middle_is_not_taken_for_the_end(tmp_path: Path, packs: bool) -> None:
    data = bytearray(packed(images(10)))
    data[4 * 1536 + 20 : 4 * 1536 + 60] = bytes(range(40))
    path = tmp_path / ("a.tar.gz" if packs else "a.tar")
    path.write_bytes(gzip.compress(bytes(data)) if packs else data)
    objects, problems = listed(ShardSource(path))
    assert [item.name for item in objects] == [name for name, _ in images(10) if name != "0004.jpg"]
    assert "the header at byte 6144 is damaged" in problems[0].detail
    assert [one.hides_objects for one in problems] == [True]


def test_a_broken_compression_gives_the_images_before_it(tmp_path: Path) -> None:
    whole = gzip.compress(packed(images(200)))
    for broken in (whole[:100_000], whole[:100_000] + b"\0" * 500 + whole[100_500:]):
        (tmp_path / "a.tar.gz").write_bytes(broken)
        objects, problems = listed(ShardSource(tmp_path / "a.tar.gz"))
        assert 50 < len(objects) < 150
        assert problems[-1].hides_objects


@pytest.mark.parametrize("data", [b"", b"not a tar at all" * 100, b"\0" * 100, b"\x1f\x8b"])
def test_what_is_no_archive_cannot_be_listed(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.tar"):
        listed(ShardSource(tmp_path / "a.tar"))


def test_an_empty_archive_is_whole(tmp_path: Path) -> None:
    assert listed(ShardSource(shard(tmp_path / "a.tar", []))) == ([], [])


@pytest.mark.parametrize("seed", range(60))
def test_no_damage_does_more_than_a_problem(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(packed([*images(5), ("x" * 200 + ".jpg", b"long")], form=chance.choice([1, 2])))
    for _ in range(chance.randrange(1, 30)):
        data[chance.randrange(len(data) - 1024)] = chance.randrange(256)
    (tmp_path / "a.tar").write_bytes(data)
    source = ShardSource(tmp_path)
    try:
        objects, _ = listed(source)
    except SourceError:
        return
    for item in objects:
        assert len(source.read(item, limits=LIMITS)) == item.size


def test_a_size_below_zero_costs_its_file(tmp_path: Path) -> None:
    data = bytearray(packed(images(3)))
    data[1536 + 124 : 1536 + 136] = b"\xff" * 11 + b"\x00"  # -256 in base 256
    checksum = sum(data[1536 : 1536 + 148]) + 8 * 32 + sum(data[1536 + 156 : 2048])
    data[1536 + 148 : 1536 + 156] = f"{checksum:06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(data)
    objects, problems = listed(ShardSource(tmp_path / "a.tar"))
    assert [item.name for item in objects] == ["0000.jpg", "0002.jpg"]
    assert problems[0].hides_objects


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("shard-{000..001}.tar", ["shard-000.tar", "shard-001.tar"]),
        ("shard-*.tar", ["shard-000.tar", "shard-001.tar", "shard-010.tar"]),
        ("{shard-01?,shard-000}.tar", ["shard-010.tar", "shard-000.tar"]),
        ("*/*.tar", ["in/x.tar"]),
        ("", ["shard-000.tar", "shard-001.tar", "shard-010.tar"]),
    ],
)
def test_a_location_names_archives_by_braces_stars_or_their_folder(
    tmp_path: Path, pattern: str, found: list[str]
) -> None:
    for name in ("shard-010.tar", "shard-000.tar", "shard-001.tar", "in/x.tar"):
        shard(tmp_path / name, [("1.jpg", name)])
    source = ShardSource(f"{tmp_path}/{pattern}")
    objects, problems = listed(source)
    assert [source.read(item, limits=LIMITS).decode() for item in objects] == found
    assert not problems


def test_braces_count_and_list() -> None:
    assert list(expand_braces("a{8..10}b{x,y}")) == ["a8bx", "a8by", "a9bx", "a9by", "a10bx", "a10by"]
    assert list(expand_braces("{098..101}")) == ["098", "099", "100", "101"]
    for pattern in ("{5..1}", "{0..99999999}"):
        with pytest.raises(ConfigError, match="count upwards"):
            list(expand_braces(pattern))


def test_a_file_may_have_braces_in_its_own_name(tmp_path: Path) -> None:
    objects, _ = listed(ShardSource(shard(tmp_path / "{a,b}.tar", images(1))))
    assert len(objects) == 1


def test_a_missing_archive_among_several_is_a_problem(tmp_path: Path) -> None:
    shard(tmp_path / "s-1.tar", images(1))
    objects, problems = listed(ShardSource(tmp_path / "s-{0..2}.tar"))
    assert len(objects) == 1
    assert [(one.uri, one.hides_objects) for one in problems] == [
        (to_uri(tmp_path / f"s-{number}.tar"), True) for number in (0, 2)
    ]


@pytest.mark.parametrize("location", ["gone.tar", "gone-*.tar", "gone-{0..3}.tar", "empty"])
def test_a_location_without_archives_cannot_be_listed(tmp_path: Path, location: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError):
        listed(ShardSource(tmp_path / location))


def test_archives_in_a_bucket_are_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = new_bucket(monkeypatch)
    files: Files = [("a b.jpg", b"one"), ("a b.txt", "a caption"), ("c.jpg", b"two")]
    bucket.put("set/s-0.tar", packed(files))
    bucket.put("set/s-1.tar.gz", gzip.compress(packed(images(2))))
    bucket.put("set/notes.txt", "x")
    expected = [f"{bucket.url}/set/s-0.tar#a%20b.jpg", f"{bucket.url}/set/s-0.tar#c.jpg"]
    for location in ("set/s-0.tar", "set/s-{0..0}.tar", "set/*.tar"):
        source = ShardSource(f"{bucket.url}/{location}")
        objects, problems = listed(source)
        assert [item.uri for item in objects] == expected
        assert objects[0].said == Description("a caption")
        assert [item.content for item in objects] == [b"one", b"two"]
        assert not problems
    bare = SourceObject(objects[1].uri, objects[1].name, objects[1].size, None, objects[1].etag)
    assert source.read(bare, limits=LIMITS) == b"two"
    assert source.read(SourceObject(objects[1].uri, "c.jpg"), limits=LIMITS) == b"two"
    objects, _ = listed(ShardSource(f"{bucket.url}/set"))
    assert len(objects) == 4
    with pytest.raises(SourceError):
        listed(ShardSource(f"{bucket.url}/set/gone.tar"))


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
@pytest.mark.usefixtures("brief_pauses")
def test_an_archive_in_a_bucket_is_streamed_through_failures_and_cuts(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bucket = new_bucket(monkeypatch)
    data = packed(images(300, 3000))
    bucket.put(name, gzip.compress(data) if name.endswith(".gz") else data)
    monkeypatch.setattr("clip_qdrant_ingestion.sources.buckets.filesystems._BUFFER", 1 << 15)
    with FlakyProxy(bucket.endpoint, fail_share=0.2, cut_share=0.2).running() as proxy:
        options = {"endpoint_url": proxy.url, "default_block_size": 1 << 15}
        objects, problems = listed(ShardSource(f"{bucket.url}/{name}", storage_options=options))
        assert proxy.failed > 0
        assert proxy.cut > 0
    assert [item.content for item in objects] == [content for _, content in images(300, 3000)]
    assert not problems


def test_an_outage_costs_the_archives_it_meets_and_is_transient_if_it_meets_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = new_bucket(monkeypatch)
    for number in range(2):
        bucket.put(f"s-{number}.tar", packed(images(1500, 100)))
    with FlakyProxy(bucket.endpoint).running() as proxy:
        options = {"endpoint_url": proxy.url}
        source = ShardSource(f"{bucket.url}/s-{{0..1}}.tar", storage_options=options, patience=0.1)
        pages = source.pages()
        assert len(next(pages).objects) == 1000
        proxy.down = True
        rest = list(pages)
        assert [problem.uri for page in rest for problem in page.problems] == [f"{bucket.url}/s-1.tar"]
        with pytest.raises(SourceError, match=r"s-0\.tar") as caught:
            listed(source)
        assert caught.value.transient


def test_a_large_image_in_an_archive_on_the_web_is_too_large(site: WebSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_qdrant_ingestion.sources.archives.samples.CONTENT_A_PAGE", 10_000)
    monkeypatch.setattr("clip_qdrant_ingestion.sources.archives.archive.CONTENT_A_PAGE", 10_000)
    site.pages["/s.tar"] = packed([("a.jpg", b"x" * 10_001), ("b.jpg", b"y" * 10_000)])
    source = ShardSource(f"{site.url}/s.tar", fetcher=Fetcher(allow_private=True))
    (large, small), _ = listed(source)
    asked = len(site.requests)
    with pytest.raises(ImageTooLarge, match="10001 bytes; the limit in an archive on the web is 10000"):
        source.read(large, limits=LIMITS)
    assert source.read(small, limits=LIMITS) == b"y" * 10_000
    assert len(site.requests) == asked


def test_archives_on_the_web_are_fetched(site: WebSite) -> None:
    site.pages["/s-0.tar?sig=1"] = Reply(packed(images(2)), headers={"ETag": '"v1"'})
    site.pages["/s-1.tar.gz"] = gzip.compress(packed(images(1)))
    fetcher = Fetcher(allow_private=True)
    source = ShardSource(f"{site.url}/s-0.tar?sig=1", fetcher=fetcher)
    objects, _ = listed(source)
    assert source.name == f"{site.url}/s-0.tar"
    assert [item.content for item in objects] == [content for _, content in images(2)]
    assert (objects[0].etag or "").startswith('"v1":')
    assert source.read(replace(objects[1], content=None), limits=LIMITS) == images(2)[1][1]
    objects, problems = listed(ShardSource(f"{site.url}/s-{{0..1}}.tar.gz", fetcher=fetcher))
    assert len(objects) == 1
    assert "404" in problems[0].detail
    with pytest.raises(SourceError, match="no public address"):
        listed(ShardSource(f"{site.url}/s-1.tar.gz"))
