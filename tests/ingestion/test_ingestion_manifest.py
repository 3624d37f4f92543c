"""Tables that name images: their formats, their addresses, what they say, and what is wrong with them."""

from __future__ import annotations

import datetime
import gzip
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from fakes import write_image
from peak_memory import PEAK_MEMORY
from s3 import FlakyProxy, new_bucket
from web import Reply, WebSite

from clip_qdrant.errors import ConfigError, MetadataError, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.uris import to_uri
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion.sources.protocol import Description, Problem, SourceObject
from clip_qdrant_ingestion.sources.tables.addresses import check_reach, resolve_address
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource

LIMITS = Limits()


@pytest.fixture
def site() -> Iterator[WebSite]:
    with WebSite().running() as site:
        yield site


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def parquet(path: Path, columns: dict[str, Any], *, rows: int = 2) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def listed(source: ManifestSource) -> tuple[list[SourceObject], list[Problem]]:
    pages = list(source.pages())
    return [item for page in pages for item in page.objects], [one for page in pages for one in page.problems]


def said(path: Path, **options: Any) -> list[Description]:
    objects, problems = listed(ManifestSource(path, **options))
    assert not problems
    return [item.said for item in objects]


def test_the_cells_of_a_csv_are_texts_and_its_caption_the_caption(tmp_path: Path) -> None:
    path = written(
        tmp_path / "products.csv",
        'file_name,caption,price,name,\r\na.jpg,"a ""red"" shoe, new",19.90,"two\nlines",7\r\nb.jpg,,,,\r\n',
    )
    assert said(path) == [
        Description('a "red" shoe, new', {}, {"price": "19.90", "name": "two\nlines"}),
        Description(),
    ]


def test_a_tsv_has_tabs(tmp_path: Path) -> None:
    path = written(tmp_path / "products.TSV", "file\tprice, EUR\na.jpg\t19,90\n")
    assert said(path) == [Description(None, {}, {"price, EUR": "19,90"})]


def test_the_values_of_jsonl_have_their_types_and_none_is_absent(tmp_path: Path) -> None:
    row = {
        "image": "a.jpg",
        "caption": " a shoe ",
        "price": 19.9,
        "tags": ["a", None],
        "gone": None,
        "metadata": {"exif": {"camera": "X", "lens": None}},
    }
    path = written(tmp_path / "products.jsonl", f'\ufeff{json.dumps(row)}\n\n{{"image": "b.jpg"}}')
    assert said(path) == [
        Description("a shoe", {"price": 19.9, "tags": ["a"], "exif": {"camera": "X"}}),
        Description(),
    ]


def test_the_values_of_parquet_are_those_of_python(tmp_path: Path) -> None:
    import pyarrow as pa

    path = parquet(
        tmp_path / "products.parquet",
        {
            "url": ["a.jpg", "b.jpg", "c.jpg"],
            "caption": ["a", None, "c"],
            "price": [Decimal("19.90"), None, Decimal(5)],
            "sold": [True, False, None],
            "day": [datetime.date(2024, 5, 1), None, None],
            "at": pa.array([1714557600123456789, None, None], pa.timestamp("ns", "UTC")),
            "tags": [["x", None], [], None],
            "size": [{"eu": 42, "us": None}, None, None],
        },
    )
    at = datetime.datetime(2024, 5, 1, 10, 0, 0, 123456, tzinfo=datetime.UTC)
    first, second, third = said(path)
    assert (first.caption, second.caption, third.caption) == ("a", None, "c")
    assert {**first.metadata, "at": first.metadata["at"].astimezone(datetime.UTC)} == {
        "price": 19.9,
        "sold": True,
        "day": datetime.date(2024, 5, 1),
        "at": at,
        "tags": ["x"],
        "size": {"eu": 42},
    }
    assert second.metadata == {"sold": False, "tags": []}
    assert third.metadata == {"price": 5.0}


@pytest.mark.parametrize("name", ["products.csv.gz", "products.jsonl.gz"])
def test_a_table_may_be_packed(tmp_path: Path, name: str) -> None:
    text = "uri,n\na.jpg,1\n" if ".csv" in name else '{"uri": "a.jpg"}\n'
    objects, problems = listed(ManifestSource(written(tmp_path / name, gzip.compress(text.encode()))))
    assert [item.name for item in objects] == ["a.jpg"]
    assert not problems


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [(["file", "path", "uri"], "uri"), (["path", "image_url"], "image_url"), (["caption", "file_name"], "file_name")],
)
def test_the_column_of_images_is_the_first_known_name(tmp_path: Path, columns: list[str], chosen: str) -> None:
    path = written(tmp_path / "t.csv", ",".join(columns) + "\n" + ",".join(f"{column}.jpg" for column in columns))
    objects, _ = listed(ManifestSource(path))
    assert [item.name for item in objects] == [f"{chosen}.jpg"]


def test_the_column_of_images_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "url,Photo\nhttps://shop/1,a.jpg\n")
    objects, _ = listed(ManifestSource(path, uri_column="Photo"))
    assert objects[0].name == "a.jpg"
    assert objects[0].said.texts == {"url": "https://shop/1"}


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "", "\n\n", "uri,n,n\na,1,2\n"])
def test_a_table_without_a_usable_header_cannot_be_listed(tmp_path: Path, text: str) -> None:
    path = written(tmp_path / "t.csv", text)
    with pytest.raises(SourceError, match=r"t\.csv cannot be listed"):
        listed(ManifestSource(path))


def test_a_name_that_tells_no_format_is_refused() -> None:
    for name in ("table.xlsx", "table", "table.json", "table.parquet.gz"):
        with pytest.raises(ConfigError, match=r"\.csv, \.tsv, \.jsonl"):
            ManifestSource(name)


def test_a_table_that_is_not_there_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone\.csv: No such file"):
        listed(ManifestSource(tmp_path / "gone.csv"))
    with pytest.raises(SourceError, match="no Parquet file"):
        listed(ManifestSource(written(tmp_path / "t.parquet", b"not at all")))


def test_a_path_counts_from_the_folder_of_the_table_or_from_a_base(tmp_path: Path) -> None:
    absolute = write_image(tmp_path / "elsewhere" / "c d.png", "red")
    lines = [
        "file",
        "a.jpg",
        "./x/../b.jpg",
        "../up.jpg",
        str(absolute),
        to_uri(absolute).replace("c%20d", "e"),
        "x\\y",
    ]
    path = written(tmp_path / "tables" / "t.csv", "\n".join(lines))
    folder = to_uri(tmp_path)
    rest = [f"{folder}/elsewhere/c%20d.png", f"{folder}/elsewhere/e.png"]
    objects, problems = listed(ManifestSource(path))
    assert [item.uri for item in objects] == [
        *(f"{folder}/tables/{name}" for name in ("a.jpg", "b.jpg")),
        f"{folder}/up.jpg",
        *rest,
        f"{folder}/tables/x/y",
    ]
    objects, problems = listed(ManifestSource(path, base=tmp_path / "images"))
    assert objects[0].uri == f"{folder}/images/a.jpg"
    assert [item.name for item in objects[:2]] == ["a.jpg", "b.jpg"]
    assert not problems


def test_addresses_of_the_web_and_of_buckets_mean_themselves(tmp_path: Path) -> None:
    addresses = ["https://shop.example/a%20b.jpg?x=1", "s3://photos/my key#1%.jpg", "gs://photos/b.jpg"]
    path = written(tmp_path / "t.jsonl", "\n".join(json.dumps({"uri": uri}) for uri in addresses))
    objects, _ = listed(ManifestSource(path))
    assert [item.uri for item in objects] == addresses
    assert [item.name for item in objects] == ["a b.jpg", "photos/my key#1%.jpg", "photos/b.jpg"]


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/a.jpg",
        "sftp://host/a",
        "local:///etc/passwd",
        "reference://x",
        "gs://b::http://127.0.0.1/a",
        "simplecache::http://127.0.0.1/a.jpg",
        "webhdfs://10.0.0.1/a",
    ],
)
def test_a_row_cannot_name_whatever_a_file_system_reaches(tmp_path: Path, address: str) -> None:
    objects, problems = listed(ManifestSource(written(tmp_path / "t.jsonl", json.dumps({"uri": address}))))
    assert not objects
    assert "a row cannot name objects of" in problems[0].detail


def test_a_table_in_a_bucket_names_local_files_only_below_a_base(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = new_bucket(monkeypatch)
    secret = write_image(tmp_path / "secret.png", "red")
    image = write_image(tmp_path / "images" / "a.png", "red")
    addresses = [
        str(secret),
        f"file://{secret}",
        f"FILE://localhost{secret}",
        "../secret.png",
        to_uri(image),
        str(image),
    ]
    bucket.put("t.jsonl", "\n".join(json.dumps({"uri": uri}) for uri in addresses))
    objects, problems = listed(ManifestSource(f"{bucket.url}/t.jsonl"))
    assert not objects
    assert ["is a local file" in one.detail for one in problems] == [True, True, True, False, True, True]
    objects, problems = listed(ManifestSource(f"{bucket.url}/t.jsonl", base=tmp_path / "images"))
    assert [item.uri for item in objects] == [to_uri(image)]
    assert ["is a local file" in one.detail for one in problems] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("table", "named", "refused"),
    [
        (
            "sftp://good/shop/t.csv",
            ["sftp://good/x.jpg", "s3://b/x.jpg", "https://x.example/x.jpg"],
            ["sftp://evil/x.jpg", "sftp://good:2222/x.jpg", "sftp://me@good/x.jpg", "sftp://good::s3://b/x.jpg"],
        ),
        ("sftp://me:pw@good/t.csv", ["sftp://good/x.jpg"], ["sftp://me:pw@evil/x.jpg", "ftp://good/x.jpg"]),
        (
            "abfss://c@acct.example/t.csv",
            ["abfss://c@acct.example/x.jpg", "az://c/x.jpg"],
            ["az://c@evil.example/x.jpg"],
        ),
        ("s3://b/t.csv", ["s3://other/x.jpg", "gs://c/x@2.jpg"], ["az://c@evil/x.jpg", "s3://k:s@b/x.jpg"]),
        ("https://x.example/t.csv", ["http://y.example/x.jpg"], ["sftp://x.example/x.jpg"]),
    ],
)
def test_a_row_names_other_hosts_only_on_the_web_and_buckets_only_by_their_names(
    table: str, named: list[str], refused: list[str]
) -> None:
    assert [resolve_address(address, table) for address in named] == named
    for address in refused:
        with pytest.raises(MetadataError, match="a row cannot name objects of"):
            resolve_address(address, table)


def test_a_table_from_the_web_does_not_climb_out_of_its_base() -> None:
    table, base = "https://x.example/t.csv", "sftp://good/shop/"
    check_reach("sftp://good/shop/a.jpg", table, base)
    for uri in ("sftp://good/shop/../etc/a.jpg", "sftp://good/shopping/a.jpg"):
        with pytest.raises(MetadataError, match="not on the web"):
            check_reach(uri, table, base)


def test_a_table_from_the_web_names_nothing_but_the_web(site: WebSite, tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.png", "red")
    addresses = ["a.jpg", "../b.jpg", "/c.jpg", "https://x.example/d.jpg", str(secret), f"file://{secret}", "s3://b/k"]
    site.pages["/shop/t.jsonl?sig=1"] = "\n".join(json.dumps({"uri": uri}) for uri in addresses).encode()
    fetcher = Fetcher(allow_private=True)
    source = ManifestSource(f"{site.url}/shop/t.jsonl?sig=1", fetcher=fetcher)
    assert source.name == f"{site.url}/shop/t.jsonl"
    objects, problems = listed(source)
    assert [item.uri for item in objects] == [
        f"{site.url}/shop/a.jpg",
        f"{site.url}/b.jpg",
        f"{site.url}/c.jpg",
        "https://x.example/d.jpg",
        f"{site.url}{secret}",  # a path on that server
    ]
    assert [item.name for item in objects][:2] == ["a.jpg", "b.jpg"]
    assert len(problems) == 2
    assert all("not on the web" in problem.detail and problem.hides_objects for problem in problems)
    source = ManifestSource(f"{site.url}/shop/t.jsonl?sig=1", fetcher=fetcher, base=tmp_path)
    assert [item.uri for item in listed(source)[0] if item.uri.startswith("file")] == [
        to_uri(tmp_path / "a.jpg"),
        to_uri(secret),
    ]


def test_a_table_from_an_address_that_is_not_public_needs_the_option(site: WebSite) -> None:
    site.pages["/t.csv"] = b"uri\na.jpg\n"
    with pytest.raises(SourceError, match="no public address"):
        listed(ManifestSource(f"{site.url}/t.csv"))


def test_local_files_come_with_size_and_time_and_missing_ones_without(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png", "red")
    os.utime(image, (5, 5))
    path = written(tmp_path / "t.csv", "file\na.png\nb.png\n")
    source = ManifestSource(path)
    objects, problems = listed(source)
    assert [(item.size, item.mtime) for item in objects] == [(image.stat().st_size, 5.0), (None, None)]
    assert source.look(objects[0]) is objects[0]
    assert source.read(objects[0], limits=LIMITS) == image.read_bytes()
    with pytest.raises(SourceError, match=r"b\.png"):
        source.read(objects[1], limits=LIMITS)
    assert not problems


def test_columns_that_speak_of_size_or_version_are_metadata(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "uri,size,mtime,etag\nhttps://x.example/a.jpg,1,2,3\n")
    objects, _ = listed(ManifestSource(path))
    assert (objects[0].size, objects[0].mtime, objects[0].etag) == (None, None, None)
    assert objects[0].said.texts == {"size": "1", "mtime": "2", "etag": "3"}


def test_images_on_the_web_are_looked_at_by_head(site: WebSite, tmp_path: Path) -> None:
    site.pages["/a.jpg"] = Reply(b"image", headers={"ETag": '"v1"', "Last-Modified": "Wed, 01 May 2024 10:00:00 GMT"})
    path = written(tmp_path / "t.csv", f"uri,n\n{site.url}/a.jpg,1\n{site.url}/b.jpg,2\n{site.url}/c.jpg,3\n")
    site.pages["/b.jpg"] = Reply(b"", 405)
    source = ManifestSource(path, fetcher=Fetcher(allow_private=True))
    (a, b, c), _ = listed(source)
    looked = source.look(a)
    assert (looked.etag, looked.size, looked.mtime, looked.said) == ('"v1"', 5, 1714557600.0, a.said)
    assert source.read(a, limits=LIMITS) == b"image"
    assert source.look(b) is b
    with pytest.raises(SourceError, match="404"):
        source.look(c)


def test_a_table_in_a_bucket_names_objects_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = new_bucket(monkeypatch)
    bucket.put("shop/t.csv", "file,price\na b.jpg,5\n../c.jpg,6\n../../d.jpg,7\n")
    bucket.put("shop/a b.jpg", b"here", metadata={"artist": "Ann"})
    source = ManifestSource(f"{bucket.url}/shop/t.csv")
    (a, c), problems = listed(source)
    assert (a.uri, a.name) == (f"{bucket.url}/shop/a b.jpg", "a b.jpg")
    assert c.uri == f"{bucket.url}/c.jpg"
    assert "outside of the bucket" in problems[0].detail
    assert source.read(a, limits=LIMITS) == b"here"
    looked = source.look(a)
    assert (looked.name, looked.size) == ("a b.jpg", 4)
    assert looked.etag is not None
    assert looked.said.texts == {"artist": "Ann", "price": "5"}
    with pytest.raises(SourceError) as caught:
        source.read(c, limits=LIMITS)
    assert not caught.value.transient


def test_a_parquet_table_is_read_from_a_bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bucket = new_bucket(monkeypatch)
    bucket.put("t.parquet", parquet(tmp_path / "t.parquet", {"uri": ["a.jpg", "b.jpg", "c.jpg"]}).read_bytes())
    objects, _ = listed(ManifestSource(f"{bucket.url}/t.parquet"))
    assert [item.uri for item in objects] == [f"{bucket.url}/{name}.jpg" for name in "abc"]


def test_a_broken_row_costs_itself_and_hides_an_object(tmp_path: Path) -> None:
    lines = [
        b'{"uri": "a.jpg"}',
        b"not json",
        b"[1]",
        b'{"caption": "of what?"}',
        b'{"uri": 7}',
        b'{"uri": "\xff.jpg"}',
        b'{"uri": "\\ud800.jpg"}',
        b'{"uri": "c.jpg"}',
    ]
    path = written(tmp_path / "t.jsonl", b"\n".join(lines))
    objects, problems = listed(ManifestSource(path))
    assert [item.name for item in objects] == ["a.jpg", "c.jpg"]
    assert [problem.detail.partition(":")[0] for problem in problems] == [f"line {number}" for number in range(2, 8)]
    assert {(one.uri, one.reason, one.hides_objects) for one in problems} == {(to_uri(path), "bad metadata", True)}


def test_a_broken_row_of_a_csv_costs_itself(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv", b'uri,n\na.jpg,1\nb.jpg\n,2\n"c"d.jpg,3\n\xff.jpg,4\ne.jpg,5\n"f\n.jpg",\xff\ng.jpg,\n'
    )
    objects, problems = listed(ManifestSource(path))
    assert [item.name for item in objects] == ["a.jpg", "e.jpg", "g.jpg"]
    assert [problem.detail.partition(":")[0] for problem in problems] == [
        "line 3",
        "line 4",
        "line 5",
        "line 6",
        "line 8",
    ]


def test_metadata_of_a_csv_may_be_an_object(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", 'uri,metadata,n\na.jpg,"{""n"": 1}",2\nb.jpg,[],1\n')
    objects, problems = listed(ManifestSource(path))
    assert [item.said for item in objects] == [Description(None, {"n": 1}), Description(None, {}, {"n": "1"})]
    (error,) = objects[1].said.left_out
    assert (error.field, problems) == ("metadata", [])
    assert "JSON object" in str(error)


def test_a_field_that_cannot_be_stored_does_not_cost_its_row(tmp_path: Path) -> None:
    lines = ['{"uri": "a.jpg", "caption": 1, "n": 1}', '{"uri": "b.jpg", "metadata": [], "n": 2}']
    objects, problems = listed(ManifestSource(written(tmp_path / "t.jsonl", "\n".join(lines))))
    assert [item.said for item in objects] == [Description(None, {"n": 1}), Description(None, {"n": 2})]
    assert [[error.field for error in item.said.left_out] for item in objects] == [["caption"], ["metadata"]]
    assert not problems


def test_bytes_in_a_column_are_no_metadata(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", {"uri": ["a.jpg", "b.jpg"], "thumb": [b"\xff\xd8", None]})
    objects, problems = listed(ManifestSource(path))
    assert [item.said for item in objects] == [Description()] * 2
    assert [str(error) for error in objects[0].said.left_out] == [
        "thumb holds 2 bytes, which is no metadata; leave the column out"
    ]
    assert not problems


def test_an_image_that_is_named_twice_is_listed_once(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "file,n\na.jpg,1\n./a.jpg,2\nb.jpg,3\n")
    objects, problems = listed(ManifestSource(path))
    assert [item.said.texts["n"] for item in objects] == ["1", "3"]
    assert [problem.hides_objects for problem in problems] == [False]
    assert "line 3: " in problems[0].detail
    assert "has a row already" in problems[0].detail


def test_an_image_that_is_named_twice_is_found_far_apart(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(4000)]
    path = written(tmp_path / "t.csv", "\n".join(["file", *names, *reversed(names), "new.jpg"]))
    source = ManifestSource(path)
    pages = list(source.pages())
    assert [item.name for page in pages for item in page.objects] == [*names, "new.jpg"]
    assert sum(len(page.problems) for page in pages) == 4000
    assert max(len(page.objects) for page in pages) <= 1000


def test_a_packed_table_that_breaks_off_gives_what_is_before(tmp_path: Path) -> None:
    text = "uri\n" + "\n".join(f"{os.urandom(8).hex()}.jpg" for _ in range(5000))
    path = written(tmp_path / "t.csv.gz", gzip.compress(text.encode())[:-20_000])
    objects, problems = listed(ManifestSource(path))
    assert len(objects) > 1000
    assert (problems[-1].reason, problems[-1].hides_objects) == ("unreadable", True)
    assert "breaks off" in problems[-1].detail


def test_a_line_of_json_without_end_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clip_qdrant.tables.rows._LONGEST_LINE", 64)
    long = json.dumps({"uri": "long.jpg", "caption": "x" * 500})
    path = written(tmp_path / "t.jsonl", f'{{"uri": "a.jpg"}}\n{long}\n{{"uri": "b.jpg"}}\n')
    objects, problems = listed(ManifestSource(path))
    assert [item.name for item in objects] == ["a.jpg", "b.jpg"]
    assert "line 2: it is longer than 64 bytes" in problems[0].detail


def test_a_quote_that_is_never_closed_does_not_swallow_the_table(tmp_path: Path) -> None:
    rest = "\n".join(f"{number}.jpg,{'x' * 100}" for number in range(5000))
    path = written(tmp_path / "t.csv", f'uri,n\na.jpg,"open\n{rest}')
    objects, problems = listed(ManifestSource(path))
    assert len(objects) == 5000
    assert "line 2: the row has more than 256 lines; a double quote in it may not be closed" in problems[0].detail
    assert len(problems) == 1


@pytest.mark.usefixtures("brief_pauses")
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl.gz", "t.parquet"])
def test_a_table_in_a_bucket_is_read_through_failures_and_cuts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    bucket = new_bucket(monkeypatch)
    names = [f"{os.urandom(2000).hex()}.jpg" for _ in range(150)]  # enough for a dozen requests
    if name == "t.csv":
        data = "\n".join(["uri", *names]).encode()
    elif name == "t.jsonl.gz":
        data = gzip.compress("\n".join(json.dumps({"uri": each}) for each in names).encode())
    else:
        data = parquet(tmp_path / name, {"uri": names}, rows=30).read_bytes()
    bucket.put(name, data)
    monkeypatch.setattr("clip_qdrant_ingestion.sources.buckets.filesystems._BUFFER", 1 << 15)
    with FlakyProxy(bucket.endpoint, fail_share=0.2, cut_share=0.2).running() as proxy:
        options = {"endpoint_url": proxy.url, "default_block_size": 1 << 15}
        objects, problems = listed(ManifestSource(f"{bucket.url}/{name}", storage_options=options))
        assert proxy.failed > 0
        assert proxy.cut > 0
    assert [item.uri for item in objects] == [f"{bucket.url}/{each}" for each in names]
    assert not problems


def test_an_outage_in_the_middle_of_a_table_costs_the_rest_and_one_at_its_beginning_is_transient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = new_bucket(monkeypatch)
    bucket.put("t.csv", "uri\n" + "".join(f"{number}.jpg\n" for number in range(60_000)))
    monkeypatch.setattr("clip_qdrant_ingestion.sources.buckets.filesystems._BUFFER", 1 << 15)
    with FlakyProxy(bucket.endpoint).running() as proxy:
        options = {"endpoint_url": proxy.url, "default_block_size": 1 << 14}
        source = ManifestSource(f"{bucket.url}/t.csv", storage_options=options, patience=0.1)
        pages = source.pages()
        assert len(next(pages).objects) == 1000
        proxy.down = True
        problems = [problem for page in pages for problem in page.problems]
        assert "SlowDown" in problems[-1].detail
        assert (problems[-1].reason, problems[-1].hides_objects) == ("unreadable", True)
        with pytest.raises(SourceError, match=r"t\.csv: Service Unavailable") as caught:
            listed(source)
        assert caught.value.transient


def test_a_table_on_the_web_that_breaks_off_late_is_fetched_again(site: WebSite) -> None:
    tries = []

    def page(request: BaseHTTPRequestHandler) -> None:
        tries.append(request.path)
        request.send_response(200)
        request.send_header("Content-Length", "16")
        request.end_headers()
        request.wfile.write(b"uri\na.jp")
        if len(tries) == 1:
            time.sleep(0.6)  # longer than the patience
            request.close_connection = True
        else:
            request.wfile.write(b"g\nb.jpg\n")

    site.pages["/t.csv"] = page
    source = ManifestSource(f"{site.url}/t.csv", fetcher=Fetcher(allow_private=True), patience=0.5)
    objects, problems = listed(source)
    assert [item.name for item in objects] == ["a.jpg", "b.jpg"]
    assert len(tries) == 2
    assert not problems


@pytest.mark.parametrize("levels", [33, 500, 100_000])
def test_a_row_that_nests_without_end_costs_itself(tmp_path: Path, levels: int) -> None:
    deep = "[" * levels + "]" * levels
    rows = [
        f'{{"uri": "b.jpg", "x": {deep}}}',
        f'{{"uri": {deep}}}',
        f'{{"uri": "b.jpg", "metadata": {deep}}}',
        f'{{"uri": "b.jpg", "x": {deep.replace("[", chr(123) + chr(34) + "a" + chr(34) + ":", levels - 1)}}}',
        deep,
    ]
    path = written(tmp_path / "t.jsonl", "\n".join(['{"uri": "a.jpg"}', *rows, '{"uri": "c.jpg"}']))
    objects, problems = listed(ManifestSource(path))
    assert [item.name for item in objects] == ["a.jpg", "c.jpg"]
    assert len(problems) == len(rows)
    path = written(tmp_path / "t.csv", f'uri,metadata\na.jpg,\nb.jpg,"{{""x"": {deep[:60_000]}}}"\nc.jpg,\n')
    objects, problems = listed(ManifestSource(path))
    assert [(item.name, len(item.said.left_out)) for item in objects] == [("a.jpg", 0), ("b.jpg", 1), ("c.jpg", 0)]
    assert not problems


def test_what_nests_a_few_levels_is_metadata(tmp_path: Path) -> None:
    deep = "[" * 31 + "1" + "]" * 31
    path = written(tmp_path / "t.jsonl", f'{{"uri": "a.jpg", "x": {deep}}}')
    assert said(path) == [Description(None, {"x": json.loads(deep)})]


@pytest.mark.parametrize("row", ["x," * 100, "y" * 1000, '"x\n",' * 10 + "z" * 20])
def test_a_row_of_a_csv_without_end_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    monkeypatch.setattr("clip_qdrant.tables.delimited._LONGEST_ROW", 64)
    path = written(tmp_path / "t.csv", f"uri,n\na.jpg,1\n{row}\nb.jpg,2\n")
    objects, problems = listed(ManifestSource(path))
    assert [item.name for item in objects] == ["a.jpg", "b.jpg"]
    assert "line 3: the row is longer than 64 characters" in problems[0].detail


@pytest.mark.parametrize("line", [b"x", b"x,", b'"x",'])
def test_a_small_packed_table_takes_little_memory(tmp_path: Path, line: bytes) -> None:
    packed = tmp_path / "t.csv.gz"
    with gzip.open(packed, "wb", compresslevel=1) as file:
        file.write(b"uri,n\na.jpg,1\n")
        for _ in range(24):
            file.write(line * ((1 << 20) // len(line)))
        file.write(b"\nb.jpg,2\n")
    tracemalloc.start()
    try:
        objects, problems = listed(ManifestSource(packed))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [item.name for item in objects] == ["a.jpg", "b.jpg"]
    assert len(problems) == 1
    assert most < 20 << 20


def test_the_user_of_a_table_is_in_no_name_and_no_problem(site: WebSite) -> None:
    site.pages["/t.csv"] = b"uri\n,\n"
    source = ManifestSource(site.url.replace("://", "://ann:s3cret@") + "/t.csv", fetcher=Fetcher(allow_private=True))
    _, problems = listed(source)
    assert "s3cret" not in source.name + repr(source) + str(problems)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is asked for in the way of Linux")
def test_the_memory_of_a_listing_does_not_grow_with_the_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write("uri,n\n")
        file.writelines(f"https://shop.example/{number:09}.jpg,{number}\n" for number in range(100_000))
    code = (
        f"{PEAK_MEMORY}\n"
        "import sys\n"
        "from clip_qdrant_ingestion import ManifestSource\n"
        "before = peak_memory()\n"
        "print(sum(len(page.objects) for page in ManifestSource(sys.argv[1]).pages()), peak_memory() - before)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    listed, grown = map(int, told.split())
    assert listed == 100_000
    assert grown < 25 * 1024  # KiB
