"""Buckets as a source, over real HTTP: how they are listed and read, and what a slow or failing store does to that."""

from __future__ import annotations

import os
import random
import sys
import threading
import uuid
import zipfile
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import aiohttp
import botocore.exceptions
import fsspec
import pytest
from s3 import Bucket, FlakyProxy, new_bucket

from clip_qdrant.errors import ConfigError, ImageTooLarge, MissingExtra, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant_ingestion.sources.buckets.bucket import BucketSource
from clip_qdrant_ingestion.sources.buckets.filesystems import open_file, open_filesystem, to_source_error
from clip_qdrant_ingestion.sources.buckets.listing import open_bucket
from clip_qdrant_ingestion.sources.places import is_gone
from clip_qdrant_ingestion.sources.protocol import Description, SourceObject


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Bucket:
    return new_bucket(monkeypatch)


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of an empty folder in fsspec's memory."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    filesystem = fsspec.filesystem("memory")
    if filesystem.exists(url):
        filesystem.rm(url, recursive=True)


def images(source: BucketSource, folders: Collection[str] | None = None) -> list[SourceObject]:
    return [image for page in source.pages(folders) for image in page.objects]


def names(source: BucketSource) -> list[str]:
    return [image.name for image in images(source)]


def through(proxy: FlakyProxy, bucket: Bucket, *, patience: float = 60.0, looks: bool = True) -> BucketSource:
    options = {"endpoint_url": proxy.url}
    return BucketSource(bucket.url, storage_options=options, patience=patience, object_metadata=looks)


ODD_KEYS = ["a b.jpg", "a+b%41.jpg", "é/ü#?&=.jpg", "x//y.jpg", "/lead.jpg", "q?versionId=1.jpg", "\\back'\"<.jpg"]


def test_every_key_is_listed_with_uri_size_time_and_etag_and_reads_as_its_bytes(bucket: Bucket) -> None:
    for key in ODD_KEYS:
        bucket.put(key, f"content of {key}")
    source = BucketSource(bucket.url)
    listed = images(source)
    assert sorted(image.name for image in listed) == sorted(ODD_KEYS)
    assert [image.uri for image in listed] == [f"s3://{bucket.name}/{image.name}" for image in listed]
    for image in listed:
        content = f"content of {image.name}".encode()
        head = bucket.client.head_object(Bucket=bucket.name, Key=image.name)
        assert (image.size, image.etag) == (len(content), head["ETag"].strip('"'))
        assert image.mtime == head["LastModified"].timestamp()
        assert source.read(image, limits=Limits()) == content
    assert images(source) == listed
    assert source.name == bucket.url


def test_a_prefix_is_the_root_and_keys_that_stand_for_folders_are_no_images(bucket: Bucket) -> None:
    for key in ("a.jpg", "x/", "x/b.jpg", "x/y.jpg/", "x/y/c.jpg", "x/thumbs/d.jpg", "x/.trash/e.jpg", "xx/f.jpg"):
        bucket.put(key)
    for url in (f"{bucket.url}/x", f"{bucket.url}/x/", f"s3a://{bucket.name}/x"):
        source = BucketSource(url, exclude=["thumbs"])
        assert [image.uri for image in images(source)] == [f"{bucket.url}/x/b.jpg", f"{bucket.url}/x/y/c.jpg"]
        assert names(source) == ["b.jpg", "y/c.jpg"]
        assert source.name == f"{bucket.url}/x"


def test_sidecars_describe_the_images_beside_and_below_them(bucket: Bucket) -> None:
    bucket.put("metadata.csv", "file_name,year\nx/a.jpg,2020\n")
    bucket.put("x/a.jpg")
    bucket.put("x/a.txt", "a cat")
    bucket.put("x/b.jpg")
    bucket.put("x/b.json", "{")
    (page,) = BucketSource(bucket.url).pages()
    assert [image.said for image in page.objects] == [Description("a cat", {"year": 2020}), Description(partial=True)]
    (problem,) = page.problems
    assert (problem.uri, problem.reason, problem.hides_objects) == (f"{bucket.url}/x/b.json", "bad metadata", False)


def test_a_listing_of_several_requests_gives_every_key_once(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "7")
    keys = [f"{folder}{number:02}.jpg" for folder in ("", "x/", "y/") for number in range(23)]
    for key in keys:
        bucket.put(key)
    bucket.put("x/22.txt", "the last")
    with FlakyProxy(bucket.endpoint).running() as proxy:
        listed = images(through(proxy, bucket))
        assert [image.name for image in listed] == keys
        assert proxy.requests["GET"] == 3 * 4 + 1  # pages of the three folders, and the sidecar
    assert {image.name for image in listed if image.said.caption} == {"x/22.jpg"}


def test_of_named_folders_only_the_objects_directly_in_them_are_listed(bucket: Bucket) -> None:
    for key in ("a.jpg", "x/b.jpg", "x/y/c.jpg", "w/d.jpg"):
        bucket.put(key)
    bucket.put("metadata.jsonl", '{"file_name": "x/y/c.jpg", "n": 3}')
    source = BucketSource(bucket.url)
    (image,) = images(source, ["x/y", "gone"])
    assert (image.name, image.said.metadata) == ("x/y/c.jpg", {"n": 3})
    assert [image.name for image in images(source, ["", "x"])] == ["a.jpg", "x/b.jpg"]


def test_nothing_under_a_prefix_or_no_such_bucket_is_an_error_an_empty_bucket_is_none(bucket: Bucket) -> None:
    assert list(BucketSource(bucket.url).pages()) == []
    with pytest.raises(SourceError, match="no key begins with 'none/'"):
        images(BucketSource(f"{bucket.url}/none"))
    with pytest.raises(SourceError, match=r"cannot list s3://nowhere/: .*NoSuchBucket") as caught:
        images(BucketSource("s3://nowhere"))
    assert not caught.value.transient


def test_looking_at_an_object_gives_its_user_metadata_below_what_else_is_said(bucket: Bucket) -> None:
    bucket.put("a.jpg", "old", metadata={"caption": "of the header", "year": "2020", "album": "header"})
    bucket.put("a.json", '{"album": "sidecar"}')
    bucket.put("b.jpg", metadata={"caption": "=?UTF-8?B?w6k=?=", "odd": "=?no/such?q?x?="})
    source = BucketSource(bucket.url)
    first, second = images(source)
    bucket.put("a.jpg", "newer", metadata={"caption": "of the header", "year": "2021", "album": "header"})
    looked = source.look(first)
    assert looked.said == Description("of the header", {"album": "sidecar"}, {"year": "2021"})
    assert (looked.uri, looked.name, looked.size) == (first.uri, first.name, 5)
    assert looked.etag not in (None, first.etag)
    assert source.look(second).said == Description("é", texts={"odd": "=?no/such?q?x?="})
    bucket.delete("b.jpg")
    with pytest.raises(SourceError, match=r"b\.jpg: Not Found") as caught:
        source.look(second)
    assert not caught.value.transient


def test_it_is_told_whether_an_object_of_the_bucket_is_gone_wherever_it_was(bucket: Bucket) -> None:
    bucket.put("old/a.jpg", b"a")
    bucket.put("new/b.tar", b"b")
    source, root = BucketSource(f"{bucket.url}/new"), bucket.url
    places = {
        f"{root}/old/a.jpg": False,
        f"{root}/old/b.jpg": True,
        f"{root}/new/b.tar#c.jpg": False,
        f"{root}/old/b.tar#c.jpg": True,
        "s3://another-bucket/a.jpg": None,
        "https://host/a.jpg": None,
    }
    assert {uri: is_gone(uri, source) for uri in places} == places
    with FlakyProxy(bucket.endpoint, fail_share=1.0).running() as proxy:
        assert is_gone(f"{root}/old/b.jpg", through(proxy, bucket)) is None


def test_without_object_metadata_looking_costs_no_request(bucket: Bucket) -> None:
    bucket.put("a.jpg", metadata={"year": "2020"})
    with FlakyProxy(bucket.endpoint).running() as proxy:
        source = through(proxy, bucket, looks=False)
        (image,) = images(source)
        assert source.look(image) is image
        assert proxy.requests["HEAD"] == 0


def test_too_many_bytes_are_refused_by_the_size_that_is_listed_or_answered(bucket: Bucket) -> None:
    bucket.put("a.jpg", b"x" * 1000)
    with FlakyProxy(bucket.endpoint).running() as proxy:
        source = through(proxy, bucket)
        (image,) = images(source)
        before = proxy.requests["GET"]
        with pytest.raises(ImageTooLarge, match="1000 bytes; the limit is 999"):
            source.read(image, limits=Limits(max_bytes=999))
        assert proxy.requests["GET"] == before
        with pytest.raises(ImageTooLarge, match="1000 bytes; the limit is 999"):
            source.read(SourceObject(image.uri, image.name), limits=Limits(max_bytes=999))
        assert len(source.read(image, limits=Limits(max_bytes=1000))) == 1000


def test_an_answer_that_ends_early_is_a_transient_error_and_no_shorter_image(bucket: Bucket) -> None:
    bucket.put("a.jpg", b"x" * 100_000)
    (image,) = images(BucketSource(bucket.url))
    with FlakyProxy(bucket.endpoint, cut_share=1.0).running() as proxy:
        with pytest.raises(SourceError, match=r"a\.jpg") as caught:
            through(proxy, bucket).read(image, limits=Limits())
        assert caught.value.transient
        assert proxy.cut == 1


def test_a_failing_read_is_a_transient_error_after_one_request(bucket: Bucket) -> None:
    bucket.put("a.jpg")
    (image,) = images(BucketSource(bucket.url))
    with FlakyProxy(bucket.endpoint, fail_share=1.0).running() as proxy:
        source = through(proxy, bucket)
        for count in range(1, 5):
            with pytest.raises(SourceError, match=r"\((SlowDown|InternalError)\)") as caught:
                source.read(image, limits=Limits())
            assert caught.value.transient
            assert proxy.requests["GET"] == count


@pytest.mark.slow
@pytest.mark.usefixtures("brief_pauses")
def test_a_listing_goes_on_through_failures_and_cuts_to_the_same_end(bucket: Bucket) -> None:
    for number in range(12):
        bucket.put(f"{number % 6}/{number}.jpg")
        bucket.put(f"{number % 6}/{number}.txt", f"number {number}")
    expected = list(BucketSource(bucket.url).pages())
    with FlakyProxy(bucket.endpoint, fail_share=0.15, cut_share=0.15).running() as proxy:
        assert list(through(proxy, bucket).pages()) == expected
        assert proxy.failed > 0
        assert proxy.cut > 0


@pytest.mark.slow
def test_an_outage_longer_than_the_patience_ends_the_listing(bucket: Bucket) -> None:
    bucket.put("a.jpg")
    with FlakyProxy(bucket.endpoint).running() as proxy:
        proxy.down = True
        with pytest.raises(SourceError, match="SlowDown") as caught:
            images(through(proxy, bucket, patience=0.5))
        assert caught.value.transient
    with pytest.raises(SourceError, match="connect") as caught:  # the proxy is gone
        images(through(proxy, bucket, patience=0.0))
    assert caught.value.transient


@pytest.mark.usefixtures("brief_pauses")
def test_a_file_is_read_in_parts_from_any_place_through_failures_and_cuts(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(0).randbytes(200_000)
    bucket.put("a.bin", data)
    monkeypatch.setattr("clip_qdrant_ingestion.sources.buckets.filesystems._BUFFER", 1 << 14)
    with FlakyProxy(bucket.endpoint, fail_share=0.2, cut_share=0.2).running() as proxy:
        filesystem, path = open_filesystem(
            f"{bucket.url}/a.bin", {"endpoint_url": proxy.url, "default_block_size": 1 << 14}
        )
        with open_file(filesystem, path, shown="a.bin", patience=60.0) as file:
            for start, size in ((0, 10), (150_000, 60_000), (7, 40_000), (199_999, 5)):
                assert file.seek(start) == start
                assert file.read(size) == data[start : start + size]
            assert file.seek(-3, os.SEEK_END) == len(data) - 3
            assert file.read() == data[-3:]
        assert proxy.failed > 0
        assert proxy.cut > 0


def test_a_file_that_changes_while_it_is_read_is_no_mixture(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a.bin", b"a" * 100_000)
    monkeypatch.setattr("clip_qdrant_ingestion.sources.buckets.filesystems._BUFFER", 1 << 14)
    filesystem, path = open_filesystem(f"{bucket.url}/a.bin", {"default_block_size": 1 << 14})
    with open_file(filesystem, path, shown="a.bin", patience=60.0) as file:
        assert file.read(10) == b"a" * 10
        bucket.put("a.bin", b"b" * 100_000)
        with pytest.raises(SourceError, match=r"cannot read a\.bin") as caught:
            file.read()
    assert not caught.value.transient


@pytest.mark.slow
def test_as_many_reads_go_on_at_once_as_the_source_says(bucket: Bucket) -> None:
    for number in range(32):
        bucket.put(f"{number}.jpg")
        bucket.put(f"{number}.txt", "read by the listing")
    with FlakyProxy(bucket.endpoint, latency=0.5).running() as proxy:
        source = through(proxy, bucket)
        assert source.reads_at_once == 32
        listed = images(source)
        assert proxy.most_at_once >= 16  # sidecars; a pool of connections as it comes has 10
        proxy.most_at_once = 0
        together = threading.Barrier(32)

        def read(image: SourceObject) -> bytes:
            together.wait()
            return source.read(image, limits=Limits())

        with ThreadPoolExecutor(32) as pool:
            assert list(pool.map(read, listed)) == [b"x"] * 32
        assert proxy.most_at_once >= 16


def test_any_file_system_of_fsspec_is_a_source(memory: str) -> None:
    filesystem = fsspec.filesystem("memory")
    for name in ("b.jpg", "a b#.jpg", "x/c.jpg", "x/c.txt", "thumbs/d.jpg", "odd\udcff.jpg"):
        filesystem.pipe_file(f"{memory}/{name}", f"content of {name}".encode("utf-8", "replace"))
    source = BucketSource(memory, exclude=["thumbs"])
    listed = images(source)
    assert names(source) == ["a b#.jpg", "b.jpg", "odd\udcff.jpg", "x/c.jpg"]
    assert [image.uri for image in listed] == [
        f"{memory}/a b#.jpg",
        f"{memory}/b.jpg",
        f"{memory}/odd\\udcff.jpg",
        f"{memory}/x/c.jpg",
    ]
    assert listed[-1].said == Description("content of x/c.txt")
    for image in listed:
        content = f"content of {image.name}".encode("utf-8", "replace")
        assert source.read(image, limits=Limits()) == content
        assert image.size == len(content)
        assert image.mtime is not None
        assert source.look(image) is image
        with pytest.raises(ImageTooLarge):
            source.read(image, limits=Limits(max_bytes=5))
    assert [image.name for image in images(source, ["x", "gone", "b.jpg", "thumbs"])] == ["x/c.jpg"]
    filesystem.rm(f"{memory}/b.jpg")
    filesystem.pipe_file(f"{memory}/x/c.jpg", b"shorter")
    assert source.read(listed[-1], limits=Limits()) == b"shorter"
    with pytest.raises(SourceError, match=r"cannot read memory://.*b\.jpg") as caught:
        source.read(listed[1], limits=Limits())
    assert not caught.value.transient
    assert names(source) == ["a b#.jpg", "odd\udcff.jpg", "x/c.jpg"]


def test_a_folder_that_is_not_there_and_a_file_cannot_be_listed(memory: str) -> None:
    with pytest.raises(SourceError, match="cannot list memory://"):
        images(BucketSource(memory))
    fsspec.filesystem("memory").pipe_file(f"{memory}/a.jpg", b"x")
    with pytest.raises(SourceError, match="not a folder"):
        images(BucketSource(f"{memory}/a.jpg"))


def test_the_listing_of_a_file_system_grows_smaller_as_it_is_used() -> None:
    class Info(dict[str, object]):
        alive = 0

        def __init__(self, name: str, kind: str) -> None:
            super().__init__(name=name, size=1, type=kind)
            Info.alive += 1

        def __del__(self) -> None:
            Info.alive -= 1

    class Flat(fsspec.AbstractFileSystem):
        protocol = "flat"

        def ls(self, path: str, detail: bool = True) -> list[Info]:
            files = [Info(f"{path}/{number:04}.jpg", "file") for number in range(1000)]
            return [
                *reversed(files),
                Info(path, "directory"),
                Info(f"{path}/x.d/", "file"),
                Info(f"{path}/x.d", "directory"),
            ]

    fsspec.register_implementation("flat", Flat, clobber=True)
    entries = open_bucket("flat://photos").entries("")
    assert [next(entries).name for _ in range(900)] == [f"{number:04}.jpg" for number in range(900)]
    assert Info.alive <= 104
    *_, last = entries
    assert (last.name, last.is_folder) == ("x.d", True)
    assert Info.alive == 0


def test_an_archive_in_a_bucket_is_a_source_by_a_chain_of_urls(memory: str) -> None:
    with fsspec.open(f"{memory}/photos.zip", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inner/a.jpg", b"zipped")
    source = BucketSource(f"zip://inner::{memory}/photos.zip")
    (image,) = images(source)
    assert image.uri == f"zip://inner/a.jpg::{memory}/photos.zip"
    assert source.read(image, limits=Limits()) == b"zipped"


def test_a_password_in_the_url_reaches_no_uri_and_no_name(memory: str) -> None:
    secret = memory.replace("://", "://me:secret@host/")
    fsspec.filesystem("memory").pipe_file(f"{secret}/a.jpg", b"x")
    source = BucketSource(secret)
    assert [image.uri for image in images(source)] == [f"{memory.replace('://', '://me@host/')}/a.jpg"]
    assert "secret" not in source.name + repr(source)
    with pytest.raises(ConfigError) as caught:
        BucketSource("foo://me:secret@host")
    assert "secret" not in str(caught.value)
    fsspec.filesystem("memory").rm(secret, recursive=True)


def test_a_missing_driver_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("gcsfs", "adlfs"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"reading gs://photos needs gcsfs: pip install 'clip-qdrant\[gs\]'"):
        BucketSource("gs://photos")
    with pytest.raises(MissingExtra, match=r"clip-qdrant\[az\]"):
        open_filesystem("abfs://photos")


@pytest.mark.parametrize(
    ("url", "what"),
    [("photos", "not the URL of a bucket"), ("foo://x", "foo"), ("s3://", "names no bucket"), ("", "not the URL")],
)
def test_a_url_that_names_no_bucket_is_refused(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        BucketSource(url)


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="reads_at_once must be at least 1"):
        BucketSource("s3://photos", reads_at_once=0)
    with pytest.raises(ConfigError, match="both"):
        BucketSource("s3://photos", storage_options={"key": "a", "username": "b"})


def test_without_credentials_the_error_says_where_they_come_from(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SourceError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") as caught:
        images(BucketSource(bucket.url))
    assert not caught.value.transient
    bucket.put("a.jpg")
    assert len(images(BucketSource(bucket.url, storage_options={"anon": True}))) == 1


def answered(status: int, code: str) -> botocore.exceptions.ClientError:
    answer = {"Error": {"Code": code, "Message": "said so"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(answer, "GetObject")


class StatusError(Exception):
    """As the errors of azure and of huggingface_hub: the status is an attribute."""

    def __init__(self, status: int) -> None:
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (answered(503, "SlowDown"), True),
        (answered(500, "InternalError"), True),
        (answered(400, "RequestTimeout"), True),
        (answered(400, "ThrottlingException"), True),
        (answered(403, "AccessDenied"), False),
        (answered(403, "RequestTimeTooSkewed"), False),
        (answered(404, "NoSuchKey"), False),
        (answered(501, "NotImplemented"), False),
        (StatusError(429), True),
        (StatusError(502), True),
        (StatusError(401), False),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x", error="refused"), True),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"), True),
        (botocore.exceptions.SSLError(endpoint_url="http://x", error="expired"), False),
        (botocore.exceptions.NoCredentialsError(), False),
        (aiohttp.ClientPayloadError("not enough data"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (TimeoutError(), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (FileNotFoundError(2, "No such file"), False),
        (PermissionError(13, "Permission denied"), False),
        (KeyError("x"), False),
    ],
)
def test_errors_that_may_pass_are_told_from_those_that_last(error: Exception, transient: bool) -> None:
    told = to_source_error(error, "read s3://photos/a.jpg")
    assert str(told).startswith("cannot read s3://photos/a.jpg: ")
    assert told.transient is transient
    wrapped = OSError(5, "what a file system makes of it")
    wrapped.__cause__ = error
    assert to_source_error(wrapped, "read").transient is transient


def test_the_time_of_an_object_is_understood_as_number_text_or_datetime(memory: str) -> None:
    class Dated(fsspec.AbstractFileSystem):
        protocol = "dated"

        def ls(self, path: str, detail: bool = True) -> list[dict[str, object]]:
            moment = datetime(2020, 1, 1, tzinfo=UTC)
            times = {"a": moment, "b": "2020-01-01T00:00:00.000Z", "c": moment.timestamp(), "d": None}
            return [
                {"name": f"{path}/{name}.jpg", "size": 1, "type": "file", "updated": time, "md5Hash": '"x"'}
                for name, time in times.items()
            ]

    fsspec.register_implementation("dated", Dated, clobber=True)
    listed = images(BucketSource("dated://photos"))
    assert [image.mtime for image in listed] == [1577836800.0] * 3 + [None]
    assert {image.etag for image in listed} == {"x"}
