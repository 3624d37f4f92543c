"""The one reader of tables: ingestion and training settle alike what a header, a row and a name mean."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from fakes import write_image

from clip_qdrant.errors import SourceError
from clip_qdrant.tables.braces import expand_braces
from clip_qdrant.tables.columns import FILE_COLUMNS, IMAGE_COLUMNS, find_column, find_field
from clip_qdrant.tables.delimited import read_csv
from clip_qdrant.tables.rows import LostRow, TableRow, read_json_lines
from clip_qdrant.tables.suffixes import is_archive, table_format
from clip_qdrant.tables.tar import sample_key
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource
from clip_qdrant_training.data.pairs import image_name
from clip_qdrant_training.data.read import read_pairs


def read(text: bytes, form: str = "csv") -> list[TableRow | LostRow]:
    table = read_csv(io.BytesIO(text), form, fits=lambda names: find_column(names, IMAGE_COLUMNS) is not None)  # type: ignore[arg-type]
    return list(table.rows)


@pytest.mark.parametrize(
    "text",
    [
        "image,caption\nred.png,a red one\n",
        "\ufeffimage,caption\r\nred.png,a red one\r\n",
        "\n \nIMAGE , Caption\n,\nred.png,a red one\n , \n",
        "image;caption\nred.png;a red one\n",
        "image|caption\nred.png| a red one\n",
        "image\tcaption\nred.png\ta red one\n",
        'image,caption\n"red.png","a red one"\n',
    ],
)
def test_a_table_of_captions_is_read_alike_by_ingestion_and_training(tmp_path: Path, text: str) -> None:
    image = write_image(tmp_path / "red.png", "red")
    path = tmp_path / "table.csv"
    path.write_text(text, encoding="utf-8", newline="")
    [pair] = read_pairs(path)
    [page] = ManifestSource(path).pages()
    [item] = page.objects
    assert (image_name(pair.image, 0), pair.captions) == (str(image), ("a red one",))
    assert (item.uri, item.said.caption) == (image.as_uri(), "a red one")
    assert not page.problems


def test_the_usual_separator_goes_before_the_others() -> None:
    assert read(b"image,a;b\nx.png,1;2\n") == [TableRow("line 2", {"image": "x.png", "a;b": "1;2"})]
    assert read(b"image\ta,b\nx.png\t1,2\n", "tsv") == [TableRow("line 2", {"image": "x.png", "a,b": "1,2"})]


def test_a_row_that_is_lost_is_named_by_the_line_where_it_begins() -> None:
    rows = read(b'image,n\na.png,1\n"b\n.png",2,3\nc.png,"4"5\n\xff.png,6\nd.png,7\n')
    assert [(row.place, row.kind) if isinstance(row, LostRow) else row.fields["n"] for row in rows] == [
        "1",
        ("line 3", "columns"),
        ("line 4", "columns"),
        ("line 5", "syntax"),
        ("line 6", "encoding"),
        "7",
    ]


def test_a_header_with_a_name_twice_is_refused() -> None:
    with pytest.raises(SourceError, match="several columns 'n'"):
        read(b"image,n,n\na,1,2\n")


def test_json_lines_are_objects_and_anything_else_is_lost() -> None:
    lines = ['\ufeff{"a": 1}', "", "[1]", "{", '{"b": 2}']
    rows = list(read_json_lines(io.BytesIO("\n".join(lines).encode())).rows)
    assert [row.fields if isinstance(row, TableRow) else (row.place, row.kind) for row in rows] == [
        {"a": 1},
        ("line 3", "object"),
        ("line 4", "syntax"),
        {"b": 2},
    ]


def test_a_column_is_found_in_any_case_and_the_exact_one_first() -> None:
    assert find_column(["URI", "image"], IMAGE_COLUMNS) == "URI"
    assert find_column([" File_Name ", "x"], FILE_COLUMNS) == " File_Name "
    assert find_column(["Image", "image"], FILE_COLUMNS) == "image"
    assert find_column(["picture"], FILE_COLUMNS) is None
    assert find_field({"image": None, "file_name": "", "path": "a.png"}, FILE_COLUMNS) == "path"


def test_a_name_tells_a_table_or_an_archive() -> None:
    names = ("a.CSV", "a.tsv.gz", "a.ndjson", "a.pq", "a.parquet.gz", "a.json")
    assert [table_format(name) for name in names] == ["csv", "tsv", "jsonl", "parquet", None, None]
    assert [is_archive(name) for name in ("a.tar", "a.TGZ", "a.tar.gz", "a.gz")] == [True, True, True, False]


@pytest.mark.parametrize(
    ("name", "key"),
    [("a/0.left.jpg", "a/0"), ("__meta__/x.jpg", None), ("__x.jpg", None), (".a.jpg", None), ("README", None)],
)
def test_a_file_of_an_archive_belongs_to_the_sample_before_its_first_dot(name: str, key: str | None) -> None:
    assert sample_key(name) == key


def test_a_brace_without_its_partner_stands_for_itself() -> None:
    assert list(expand_braces("a{b.tar")) == ["a{b.tar"]
    assert list(expand_braces("a\\{1,2}")) == ["a\\1", "a\\2"]


def test_json_in_a_cell_of_metadata_is_an_object_for_all_tables(tmp_path: Path) -> None:
    from clip_qdrant_ingestion.sources.tree.folder_table import read_folder_table

    cell = json.dumps({"year": 2024}).replace('"', '""')
    table = read_folder_table(io.BytesIO(f'file_name,metadata,n\na.jpg,"{cell}",1\n'.encode()), "csv")
    assert (table.problems, table.rows["a.jpg"].metadata) == ([], {"year": 2024, "n": 1})
