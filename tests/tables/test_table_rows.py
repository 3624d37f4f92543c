"""What one bad row costs: itself, in every table; and what a table may take of memory and time."""

from __future__ import annotations

import codecs
import io
import json
import logging
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_qdrant.errors import SourceError, TrainingError
from clip_qdrant.tables.delimited import read_csv
from clip_qdrant.tables.parquet import read_parquet
from clip_qdrant.tables.rows import LostRow, TableRow, read_json_lines
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource
from clip_qdrant_ingestion.sources.tree.folder_table import read_folder_table
from clip_qdrant_training.data.read import read_pairs


def read(text: str | bytes, form: Any = "csv") -> list[TableRow | LostRow]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_csv(io.BytesIO(data), form, fits=lambda names: "image" in names).rows)


def captions(rows: list[TableRow | LostRow]) -> list[str | None]:
    return [row.fields.get("caption") if isinstance(row, TableRow) else row.place for row in rows]


@pytest.mark.parametrize(
    ("cell", "caption"),
    [
        ('"Stop" sign', '"Stop" sign'),
        ('"so she said', '"so she said'),
        ('5" pipe', '5" pipe'),
        ('"', '"'),
        ('the "Titanic"', 'the "Titanic"'),
        ('"a ""red"" shoe"', 'a "red" shoe'),
        ('"with\ta tab"', "with\ta tab"),
        ('"a"" b', '"a"" b'),
    ],
)
def test_a_quote_in_a_tsv_is_text_unless_its_cell_is_quoted_whole(cell: str, caption: str) -> None:
    rows = read(f"image\tcaption\na.jpg\t{cell}\nb.jpg\tb\n", "tsv")
    assert captions(rows) == [caption, "b"]


@pytest.mark.parametrize("tail", ["", ' "quoted"', '"', '" x'])
@pytest.mark.parametrize("where", [0, 3, 199])
def test_a_quote_that_is_not_closed_costs_its_own_row(where: int, tail: str) -> None:
    lines = [f"{n}.jpg,{chr(34) + 'so she said' if n == where else f'picture {n}{tail}'}" for n in range(200)]
    found = [row.fields["image"] for row in read("image,caption\n" + "\n".join(lines)) if isinstance(row, TableRow)]
    wrong = {f"{where}.jpg"} if tail in ("", ' "quoted"', '" x') else {f"{where}.jpg", f"{where + 1}.jpg"}
    assert set(found) >= {f"{n}.jpg" for n in range(200)} - wrong


def test_a_text_of_several_lines_is_one_cell() -> None:
    text = "\r\n".join(f"line {n}, of a poem" for n in range(200))
    [first, second] = read(f'image,caption\r\na.jpg,"{text}"\r\nb.jpg,b\r\n')
    assert isinstance(first, TableRow)
    assert (first.fields["caption"], second.place) == (text, "line 202")


@settings(max_examples=80, deadline=None)
@given(st.text("ab\",\n\t\r'\x00é", max_size=80), st.sampled_from(["csv", "tsv"]))
def test_any_row_leaves_those_before_and_far_behind_it(text: str, form: str) -> None:
    separator = "\t" if form == "tsv" else ","
    good = "".join(f"{n}.jpg{separator}c{n}\n" for n in range(300))
    rows = read(f"image{separator}caption\nfirst.jpg{separator}x\n{text}\n{good}", form)
    images = {row.fields.get("image") for row in rows if isinstance(row, TableRow)}
    assert {"first.jpg", *(f"{n}.jpg" for n in range(1, 300))} <= images


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    (tmp_path / "ä.png").touch()
    texts = {
        "t.csv": "image,caption\nä.png,größe 😀\n",
        "t.tsv": "image\tcaption\nä.png\tgröße 😀\n",
        "t.jsonl": json.dumps({"image": "ä.png", "caption": "größe 😀"}, ensure_ascii=False) + "\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(mark + text.encode(encoding))
        [page] = ManifestSource(tmp_path / name).pages()
        assert [(item.name, item.said.caption) for item in page.objects] == [("ä.png", "größe 😀")]
        assert [pair.captions for pair in read_pairs(tmp_path / name)] == [("größe 😀",)]
    table = read_folder_table(io.BytesIO(mark + texts["t.csv"].encode(encoding)), "csv")
    assert table.rows["ä.png"].caption == "größe 😀"


def test_a_broken_character_of_utf_16_costs_its_row() -> None:
    text = "image,caption\na.jpg,a\nb.jpg,\ud800\nc.jpg,c\n".encode("utf-16", "surrogatepass") + b"\x00"
    assert captions(read(text))[:3] == ["a", "line 3", "c"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_column_of_captions_has_the_same_names_for_ingestion_and_training(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.png").touch()
    path = tmp_path / f"t.{form}"
    if form == "csv":
        path.write_text('image,Text,keywords,n\na.png,"[""one"", ""two""]","[""x"", ""y""]",3\n')
    elif form == "jsonl":
        path.write_text('{"image": "a.png", "Text": ["one", "two"], "keywords": ["x", "y"], "n": 3}\n')
    else:
        write_parquet(path, {"image": ["a.png"], "Text": [["one", "two"]], "keywords": [["x", "y"]], "n": [3]})
    [pair] = read_pairs(path)
    [page] = ManifestSource(path).pages()
    [item] = page.objects
    assert (pair.captions, item.said.caption) == (("one", "two"), "one")
    assert item.said.metadata["keywords"] == ["x", "y"]


def test_further_captions_of_an_image_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "image,caption,n\na.png,one,1\na.png,two,1\na.png,three,1\nb.png,b,1\na.png,other,2\n"
    path = tmp_path / "t.csv"
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        [page] = ManifestSource(path).pages()
    assert [item.said.caption for item in page.objects] == ["one", "b"]
    assert len(page.problems) == 1
    assert "2 captions are not used: an image has one, the first" in caplog.text
    table = read_folder_table(io.BytesIO(text.encode()), "csv")
    assert (table.rows["a.png"].caption, table.further, len(table.problems)) == ("one", 2, 1)


@pytest.mark.parametrize(
    "text", ["path,url,caption\na.jpg,https://x.example/1,a\n", '{"path": "a.jpg", "url": "b.jpg"}\n']
)
def test_a_second_column_that_may_name_the_images_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = tmp_path / ("t.jsonl" if text.startswith("{") else "t.csv")
    path.write_text(text)
    with caplog.at_level(logging.WARNING):
        list(ManifestSource(path).pages())
    assert "named by the column 'url', and 'path' is metadata" in caplog.text
    assert "--uri-column" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        list(ManifestSource(path, uri_column="path").pages())
    assert not caplog.text


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path, **options)
    return path


def parquet_rows(path: Path) -> list[TableRow | LostRow]:
    with path.open("rb") as file:
        return list(read_parquet(file).rows)


def test_a_small_parquet_file_of_large_texts_takes_little_memory(tmp_path: Path) -> None:
    import pyarrow as pa

    texts = pa.DictionaryArray.from_arrays([0] * 59 + [1], ["x" * 5_000_000, "short"])
    columns = {
        "text": texts,
        "kept apart": texts,
        "list": pa.ListArray.from_arrays(list(range(61)), texts),
    }
    for name, column in columns.items():
        table = {"image": [f"{n}.jpg" for n in range(60)], "caption": column}
        path = write_parquet(tmp_path / name, table, compression="zstd", store_schema=name == "kept apart")
        assert path.stat().st_size < 10_000
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        try:
            rows = []
            with path.open("rb") as file:
                for row in read_parquet(file).rows:
                    rows.append(isinstance(row, TableRow))
                    assert pa.total_allocated_bytes() - before < 100 << 20
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert rows == [False] * 59 + [True]
        assert most < 50 << 20


def test_rows_of_a_parquet_file_that_would_not_fit_into_memory_are_not_read(tmp_path: Path) -> None:
    import pyarrow as pa

    path = tmp_path / "t.parquet"
    flags = pa.array([[True] * 5_000_000], pa.list_(pa.bool_()))
    write_parquet(path, {"image": ["a.jpg"], "flags": flags})
    [row] = parquet_rows(path)
    assert isinstance(row, LostRow)
    assert row.kind == "length"


def test_a_value_of_parquet_that_cannot_be_costs_its_row(tmp_path: Path) -> None:
    import pyarrow as pa

    days = pa.array([0, 2**31 - 1, 1], pa.int32()).cast(pa.date32())
    path = write_parquet(tmp_path / "t.parquet", {"image": ["a", "b", "c"], "day": days})
    rows = parquet_rows(path)
    assert [row.fields["image"] if isinstance(row, TableRow) else row.kind for row in rows] == ["a", "object", "c"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_any_bytes_in_a_parquet_file_give_rows_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "t.parquet"
    write_parquet(path, {"image": [f"{n}.jpg" for n in range(50)], "tags": [["a", "b"]] * 50, "n": list(range(50))})
    data = bytearray(path.read_bytes())
    for place, change in changes:
        start = place % len(data)
        data[start : start + len(change)] = change
    path.write_bytes(data)
    try:
        list(ManifestSource(path).pages())
        read_pairs(path)
    except (SourceError, TrainingError):
        pass


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200) | st.text(max_size=100).map(lambda text: ('{"image": "a", "x": ' + text).encode("utf-8"))
)
def test_any_bytes_in_lines_of_json_give_rows(data: bytes) -> None:
    for row in read_json_lines(io.BytesIO(b'{"image": "first"}\n' + data + b'\n{"image": "last"}\n')).rows:
        assert isinstance(row, (TableRow, LostRow))


def test_a_header_of_very_many_columns_is_refused_at_once() -> None:
    names = ",".join(f"c{n}" for n in range(100_000))
    with pytest.raises(SourceError, match="100001 columns; 10000 are the most"):
        read(f"image,{names}\n")


def test_a_page_of_a_table_holds_little_text(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("w") as file:
        for number in range(60):
            file.write(json.dumps({"image": f"{number}.jpg", "caption": "x" * 900_000}) + "\n")
        file.write(json.dumps({"image": "large.jpg", "caption": "x" * 15_000_000}) + "\n")
    pages = list(ManifestSource(path).pages())
    assert max(sum(len(item.said.caption or "") for item in page.objects) for page in pages) <= 4 << 20
    assert sum(len(page.objects) for page in pages) == 60
    assert [one.hides_objects for page in pages for one in page.problems] == [True]
