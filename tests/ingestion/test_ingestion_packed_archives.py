"""Archives as people make them: compressed in any way, under any name, and with the captions behind all images."""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from s3 import new_bucket

from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion.sources.archives.archive import ShardSource
from clip_qdrant_ingestion.sources.open import kind_of_source
from clip_qdrant_ingestion.sources.protocol import Problem, SourceObject
from clip_qdrant_training.data.read import read_pairs


def pack(files: Sequence[tuple[str, bytes]]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target.getvalue()


def listed(source: ShardSource) -> tuple[list[SourceObject], list[Problem]]:
    pages = list(source.pages())
    return [item for page in pages for item in page.objects], [one for page in pages for one in page.problems]


def compress_zstd(data: bytes) -> bytes:
    import pyarrow as pa

    target = pa.BufferOutputStream()
    with pa.CompressedOutputStream(target, "zstd") as file:
        file.write(data)
    return bytes(target.getvalue().to_pybytes())


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".tar.gz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": compress_zstd,
    ".tar": bytes,
}
FILES = [("1.jpg", b"one"), ("1.txt", b"first"), ("2.jpg", b"two" * 100_000), ("2.txt", b"second")]


@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS)
@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_the_first_bytes_tell_how_an_archive_is_compressed(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(compress(pack(FILES)))
    assert kind_of_source(str(path)) == "shards"
    source = ShardSource(path)
    objects, problems = listed(source)
    assert ([item.said.caption for item in objects], problems) == (["first", "second"], [])
    bare = [SourceObject(item.uri, item.name, item.size, etag=item.etag) for item in objects]
    assert [source.read(item, limits=Limits()) for item in bare] == [b"one", b"two" * 100_000]


@pytest.mark.parametrize("suffix", [".tar.bz2", ".tar.xz", ".tar.zst"])
@pytest.mark.parametrize("how", ["cut", "zeros", "garbage"])
def test_a_compression_that_is_damaged_is_told(tmp_path: Path, suffix: str, how: str) -> None:
    packed = bytearray(COMPRESSIONS[suffix](pack([(f"{n}.jpg", bytes([n]) * 5000) for n in range(1, 50)])))
    half = len(packed) // 2
    changed = {"cut": packed[:half], "zeros": packed[:half] + bytes(60), "garbage": packed + b"x" * 60}[how]
    (tmp_path / f"a{suffix}").write_bytes(changed)
    (tmp_path / "b.tar").write_bytes(pack([("after.jpg", b"x")]))
    objects, problems = listed(ShardSource(tmp_path))
    assert objects[-1].name == "after.jpg"
    assert any(one.hides_objects for one in problems)


def test_streams_of_a_compression_may_follow_one_another(tmp_path: Path) -> None:
    data = pack(FILES)
    for number, compress in enumerate((gzip.compress, bz2.compress, lzma.compress)):
        (tmp_path / f"{number}.tar").write_bytes(compress(data[:2000]) + compress(data[2000:]))
    objects, problems = listed(ShardSource(tmp_path))
    assert (len(objects), problems) == (6, [])


def test_training_names_the_compression_of_a_shard(tmp_path: Path) -> None:
    from clip_qdrant.errors import TrainingError

    (tmp_path / "a.tar").write_bytes(gzip.compress(pack(FILES)))
    with pytest.raises(TrainingError, match=r"packed by gzip.*unpack it first"):
        read_pairs(tmp_path / "a.tar")


APART = {
    "behind": [("1.jpg", b"i"), ("2.jpg", b"i"), ("1.txt", b"one"), ("2.txt", b"two")],
    "before": [("1.txt", b"one"), ("2.txt", b"two"), ("1.jpg", b"i"), ("2.jpg", b"i")],
    "around": [("2.txt", b"two"), ("1.jpg", b"i"), ("2.jpg", b"i"), ("1.txt", b"one")],
}


@pytest.mark.parametrize("how", APART)
def test_captions_apart_from_their_images_are_brought_together(tmp_path: Path, how: str) -> None:
    (tmp_path / "a.tar").write_bytes(pack(APART[how]))
    objects, problems = listed(ShardSource(tmp_path / "a.tar"))
    assert ([item.said.caption for item in objects], problems) == (["one", "two"], [])
    assert sorted(pair.captions for pair in read_pairs(tmp_path / "a.tar")) == [("one",), ("two",)]


def test_captions_that_come_too_late_in_a_stream_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(gzip.compress(pack(APART["behind"])))
    bucket = new_bucket(monkeypatch)
    bucket.put("a.tar", pack(APART["behind"]))
    for location in (tmp_path / "a.tar", f"{bucket.url}/a.tar"):
        objects, problems = listed(ShardSource(location))
        assert [item.said.caption for item in objects] == [None, None]
        assert [one.hides_objects for one in problems] == [False]
        assert "of 2 images, such as '1', lies apart from them" in problems[0].detail
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(pack(APART["before"])))
    objects, problems = listed(ShardSource(tmp_path / "b.tar.gz"))
    assert ([item.said.caption for item in objects], problems) == (["one", "two"], [])


def test_captions_without_an_image_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.tar").write_bytes(pack([("images/1.jpg", b"i"), ("texts/1.txt", b"one"), ("texts/2.txt", b"two")]))
    with caplog.at_level(logging.WARNING):
        _, problems = listed(ShardSource(tmp_path / "a.tar"))
    assert not problems
    assert "2 samples of an archive have no image, such as 'texts/1'" in caplog.text


def test_a_broken_caption_behind_the_images_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(pack([("1.jpg", b"i"), ("2.jpg", b"i"), ("1.json", b"{"), ("2.txt", b"two")]))
    objects, problems = listed(ShardSource(tmp_path / "a.tar"))
    assert [(item.said.caption, item.said.partial) for item in objects] == [(None, True), ("two", False)]
    assert [one.uri.rpartition("#")[2] for one in problems] == ["1.json"]
