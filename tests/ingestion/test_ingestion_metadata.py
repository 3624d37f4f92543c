"""Captions and metadata beside the images: where they may be, which wins, and what a broken row does."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client.client_base import QdrantBase

from clip_qdrant.collection.images import ImageCollection
from clip_qdrant.errors import ImageTooLarge
from clip_qdrant_ingestion import ingest
from clip_qdrant_ingestion.packed_texts import PackedTexts, TextSet, sort_texts
from clip_qdrant_ingestion.sources.protocol import Description
from clip_qdrant_ingestion.sources.tree.folder import FolderSource
from clip_qdrant_ingestion.sources.tree.folder_table import FolderTable, read_folder_table
from clip_qdrant_ingestion.sources.tree.sidecars import FolderSidecars, Sidecars

Described = dict[str, tuple[str | None, dict[str, Any]]]


def describe(root: Path, files: dict[str, str | bytes]) -> tuple[Described, list[str]]:
    """What the images of a folder are described as, and the problems, each beginning with the name of its file."""
    found, problems = descriptions(root, files)
    return {name: (said.caption, dict(said.metadata)) for name, said in found.items()}, problems


def parse_csv(text: str) -> FolderTable:
    return read_folder_table(io.BytesIO(text.encode()), "csv")


def parse_jsonl(text: str) -> FolderTable:
    return read_folder_table(io.BytesIO(text.encode()), "jsonl")


def partial(root: Path, files: dict[str, str | bytes]) -> set[str]:
    """The images of which something may be missing, as a sidecar could not be read."""
    return {name for name, said in descriptions(root, files)[0].items() if said.partial}


def descriptions(root: Path, files: dict[str, str | bytes]) -> tuple[dict[str, Description], list[str]]:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    pages = list(FolderSource(root).pages())
    described = {image.name: image.said for page in pages for image in page.objects}
    return described, [problem.detail for page in pages for problem in page.problems]


def test_a_jsonl_table_gives_captions_and_metadata(tmp_path: Path) -> None:
    row = {"file_name": "a.jpg", "caption": " a cat ", "year": 2020, "tags": ["x"], "gone": None}
    rows = json.dumps(row) + '\n\n{"file_name": "b.jpg"}\n'
    described, problems = describe(tmp_path, {"a.jpg": "", "b.jpg": "", "c.jpg": "", "metadata.jsonl": rows})
    assert described == {"a.jpg": ("a cat", {"year": 2020, "tags": ["x"]}), "b.jpg": (None, {}), "c.jpg": (None, {})}
    assert problems == []


@pytest.mark.parametrize("column", ["file_name", "image", "file", "filename", "path"])
@pytest.mark.parametrize("table", ["metadata.jsonl", "metadata.csv"])
def test_the_image_may_be_named_in_any_of_five_columns(tmp_path: Path, column: str, table: str) -> None:
    text = f'{{"{column}": "a.jpg", "x": 1}}' if table.endswith("jsonl") else f"{column},x\na.jpg,1\n"
    assert describe(tmp_path, {"a.jpg": "", table: text})[0] == {"a.jpg": (None, {"x": 1})}


def test_a_nested_metadata_object_and_other_columns_are_metadata(tmp_path: Path) -> None:
    row = json.dumps({"file_name": "a.jpg", "metadata": {"year": 2020, "exif": {"iso": 100}}, "album": "x"})
    assert describe(tmp_path, {"a.jpg": "", "metadata.jsonl": row})[0] == {
        "a.jpg": (None, {"year": 2020, "exif": {"iso": 100}, "album": "x"})
    }


def test_a_table_describes_images_in_folders_below_it_and_the_nearest_table_wins(tmp_path: Path) -> None:
    described, problems = describe(
        tmp_path,
        {
            "x/a.jpg": "",
            "x/y/b.jpg": "",
            "z/a.jpg": "",
            "metadata.csv": "file_name,caption,level\n./x/a.jpg,top,1\nx\\y\\b.jpg,top,1\nz/a.jpg,top,1\n",
            "x/metadata.jsonl": '{"file_name": "a.jpg", "level": 2}\n{"file_name": "y/b.jpg", "caption": "middle"}\n',
        },
    )
    assert described == {
        "x/a.jpg": ("top", {"level": 2}),
        "x/y/b.jpg": ("middle", {"level": 1}),
        "z/a.jpg": ("top", {"level": 1}),
    }
    assert problems == []


def test_what_is_nearer_to_the_image_wins_field_by_field(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"a.jpg": "", "metadata.csv": "file_name,caption,v,csv\na.jpg,csv,1,1\n"}
    steps = [
        ({}, "csv", {"v": 1, "csv": 1}),
        ({"metadata.jsonl": '{"file_name": "a.jpg", "caption": "jsonl", "v": 2}'}, "jsonl", {"v": 2, "csv": 1}),
        ({"a.json": '{"caption": "json", "v": 3}'}, "json", {"v": 3, "csv": 1}),
        ({"a.jpg.json": '{"v": 4, "metadata": {"w": 5}}'}, "json", {"v": 4, "csv": 1, "w": 5}),
        ({"a.txt": "text\n"}, "text", {"v": 4, "csv": 1, "w": 5}),
        ({"a.jpg.txt": "more text"}, "more text", {"v": 4, "csv": 1, "w": 5}),
    ]
    for number, (new, caption, metadata) in enumerate(steps):
        files |= new
        assert describe(tmp_path / str(number), files) == ({"a.jpg": (caption, metadata)}, [])


def test_csv_columns_are_typed() -> None:
    table = parse_csv(
        "file_name,whole,number,flag,zip,mixed,words,date,huge\n"
        "a.jpg,7,1.5,true,007,1,1 cat,2020-01-01,123456789012345678901\n"
        "b.jpg,-12,2,FALSE,90210,x,,2020-02-02,1\n"
        "c.jpg,,1e3,,,,,,\n"
    )
    assert table.problems == []
    assert {name: description.metadata for name, description in table.rows.items()} == {
        "a.jpg": {
            "whole": 7, "number": 1.5, "flag": True, "zip": "007", "mixed": "1", "words": "1 cat",
            "date": "2020-01-01", "huge": "123456789012345678901",
        },
        "b.jpg": {
            "whole": -12, "number": 2.0, "flag": False, "zip": "90210", "mixed": "x", "date": "2020-02-02", "huge": "1",
        },
        "c.jpg": {"number": 1000.0},
    }  # fmt: skip
    types = {name: type(value) for name, value in table.rows["b.jpg"].metadata.items()}
    assert types["whole"] is int
    assert types["number"] is float
    assert types["flag"] is bool


def test_csv_numbers_that_are_none_stay_text() -> None:
    table = parse_csv("file,a,b,c,d,e\na.jpg,nan,1e999,1_000,.,1e\n")
    assert table.rows["a.jpg"].metadata == {"a": "nan", "b": "1e999", "c": "1_000", "d": ".", "e": "1e"}


def test_csv_captions_and_file_names_stay_text() -> None:
    table = parse_csv("file,caption\n1,2020\n2,2021\n")
    assert {name: row.caption for name, row in table.rows.items()} == {"1": "2020", "2": "2021"}


def test_csv_with_quotes_line_breaks_bom_and_crlf_is_read(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbffile_name,caption\r\n"a,b.jpg","a ""big""\r\ncat"\r\n\r\n'
    described, problems = describe(tmp_path, {"a,b.jpg": "", "metadata.csv": text})
    assert described == {"a,b.jpg": ('a "big"\r\ncat', {})}
    assert problems == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{broken", "not JSON"),
        ("[1]", "JSON object"),
        ('{"caption": "x"}', "names no image"),
        ('{"file_name": 7}', "path of an image"),
        ('{"file_name": "../b.jpg"}', "not a path below"),
        ('{"file_name": "/b.jpg"}', "not a path below"),
        ('{"file_name": "a.jpg"}', "has a row already, in line 1"),
        ("[" * 5000, "not JSON"),
        ('{"file_name": "b.jpg", "n": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_a_broken_jsonl_row_is_told_with_its_line_and_the_others_are_used(line: str, what: str) -> None:
    table = parse_jsonl(f'{{"file_name": "a.jpg", "x": 1}}\n{line}\n{{"file_name": "c.jpg", "x": 2}}\n')
    assert len(table.problems) == 1
    assert table.problems[0].startswith("line 2: ")
    assert what in table.problems[0]
    assert [row.metadata for row in table.rows.values()] == [{"x": 1}, {"x": 2}]


def test_a_broken_csv_row_is_told_with_its_line_and_the_others_are_used() -> None:
    table = parse_csv('file_name,x\na.jpg,1\nb.jpg\n"two\nlines.jpg",2,3\nc.jpg,"4"5\n,6\nd.jpg,7\n')
    assert [problem.split(":")[0] for problem in table.problems] == ["line 3", "line 4", "line 5", "line 6", "line 7"]
    assert {name: row.metadata for name, row in table.rows.items()} == {"a.jpg": {"x": 1}, "d.jpg": {"x": 7}}


@pytest.mark.parametrize(
    ("text", "what"), [("name,x\na.jpg,1\n", "none of the columns"), ("file,x,x\na.jpg,1,2\n", "several columns 'x'")]
)
def test_a_csv_with_a_wrong_header_is_told(text: str, what: str) -> None:
    table = parse_csv(text)
    assert len(table.problems) == 1
    assert what in table.problems[0]
    assert table.rows == {}


@pytest.mark.parametrize("text", ["", "\n\n", "file_name,caption\n"])
def test_an_empty_csv_says_nothing(text: str) -> None:
    table = parse_csv(text)
    assert (table.rows, table.problems) == ({}, [])


def test_a_broken_sidecar_of_one_image_is_told_and_the_image_keeps_the_rest(tmp_path: Path) -> None:
    described, problems = describe(
        tmp_path, {"a.jpg": "", "a.json": "{", "a.txt": "a cat", "b.jpg": "", "b.json": "[]", "b.txt": b"\nna\xefve"}
    )
    assert described == {"a.jpg": ("a cat", {}), "b.jpg": (None, {})}
    assert [problem[:10] for problem in problems] == ["a.json: no", "b.json: it", "b.txt: lin"]
    assert "line 2: not UTF-8" in problems[2]


def test_a_table_that_is_not_utf8_is_told_with_the_line(tmp_path: Path) -> None:
    described, problems = describe(tmp_path, {"a.jpg": "", "metadata.csv": b"file,caption\na.jpg,caf\xe9\n"})
    assert described == {"a.jpg": (None, {})}
    assert problems == ["metadata.csv: line 2: not UTF-8 text; save the file as UTF-8"]


def test_rows_that_name_no_image_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        describe(tmp_path, {"sub/a.jpg": "", "sub/metadata.csv": "file,x\na.jpg,1\nA.jpg,1\nz.jpg,2\n", "z.jpg": ""})
    assert [record.getMessage() for record in caplog.records] == [
        "2 rows of the metadata in folder 'sub' name no image there, such as 'A.jpg'"
    ]


PHOTOS: dict[str, str | bytes] = {"a.jpg": "", "b.jpg": "", "sub/c.jpg": "", "other/d.jpg": ""}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.txt": "a cat", "b.json": "{}"}, set()),
        ({"a.json": "{"}, {"a.jpg"}),
        ({"a.jpg.txt": b"\xff"}, {"a.jpg"}),
        ({"metadata.csv": b"file,caption\na.jpg,caf\xe9\n"}, {"a.jpg", "b.jpg", "sub/c.jpg", "other/d.jpg"}),
        ({"sub/metadata.csv": "name,year\nc.jpg,1\n"}, {"sub/c.jpg"}),
        # The lost line may be of any image that has no other.
        ({"metadata.jsonl": '{"file": "a.jpg"}\n{"file": "b.j\n{"file": "sub/c.jpg"}\n'}, {"b.jpg", "other/d.jpg"}),
        ({"metadata.csv": "file,x\na.jpg,1\nb.jpg,1,2\nsub/c.jpg,1\nother/d.jpg,2\n"}, {"b.jpg"}),
        ({"metadata.csv": "file,x\na.jpg,1\na.jpg,2\n"}, set()),
        ({"metadata.csv": b"\xff", "metadata.jsonl": '{"file": "a.jpg"}\n', "a.txt": "a cat"}, set(PHOTOS)),
    ],
)
def test_what_could_not_be_read_is_told_of_the_images_it_may_be_about(
    tmp_path: Path, files: dict[str, str | bytes], expected: set[str]
) -> None:
    assert partial(tmp_path, PHOTOS | files) == expected


def test_columns_without_a_name_are_left_out_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tables = {
        "pandas/metadata.csv": ",file_name,year\n0,a.jpg,2020\n1,b.jpg,2021\n",
        "sheet/metadata.csv": "file_name,year,,\na.jpg,2020,,\nb.jpg,2021,,\n",
    }
    images = {f"{folder}/{name}.jpg": "" for folder in ("pandas", "sheet") for name in "ab"}
    with caplog.at_level(logging.WARNING):
        described, problems = describe(tmp_path, {**images, **tables})
    assert problems == []
    assert described == {name: (None, {"year": 2020 if "a.jpg" in name else 2021}) for name in images}
    assert [record.getMessage() for record in caplog.records] == [
        "pandas/metadata.csv: 1 columns without a name are not used",
        "sheet/metadata.csv: 2 columns without a name are not used",
    ]


def test_names_match_in_either_unicode_form_and_suffixes_in_either_case(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    described, problems = describe(
        tmp_path,
        {
            f"{decomposed}.jpg": "", f"{composed}2.jpg": "", "b.JPG": "", "c.jpg": "",
            "Metadata.CSV": f"file,x\n{composed}.jpg,1\n{decomposed}2.jpg,2\nb.JPG,3\n",
            f"{composed}.txt": "coffee", "b.TXT": "upper", "c.TXT": "upper", "c.txt": "lower", "c.JSON": '{"x": 4}',
        },
    )  # fmt: skip
    assert problems == []
    assert described == {
        f"{decomposed}.jpg": ("coffee", {"x": 1}),
        f"{composed}2.jpg": (None, {"x": 2}),
        "b.JPG": ("upper", {"x": 3}),
        "c.jpg": ("lower", {"x": 4}),
    }


def test_the_sidecar_of_one_image_is_refused_above_a_mebibyte(tmp_path: Path) -> None:
    described, problems = describe(tmp_path, {"a.jpg": "", "a.txt": "x" * (1024 * 1024 + 1)})
    assert described == {"a.jpg": (None, {})}
    assert len(problems) == 1
    assert "the limit is 1048576" in problems[0]


def test_one_sidecar_may_describe_several_images_and_is_told_once(tmp_path: Path) -> None:
    described, problems = describe(tmp_path, {"a.jpg": "", "a.png": "", "a.txt": "a cat", "a.json": "{"})
    assert described == {"a.jpg": ("a cat", {}), "a.png": ("a cat", {})}
    assert len(problems) == 1


def test_names_that_are_neither_composed_nor_decomposed_match_too(tmp_path: Path) -> None:
    mixed = "\u00e9e\u0301"
    described, _ = describe(tmp_path, {"\u00e9\u00e9.jpg": "", f"{mixed}.TXT": "mixed", f"{mixed}b.jpg": ""})
    assert described == {"\u00e9\u00e9.jpg": ("mixed", {}), f"{mixed}b.jpg": (None, {})}


def describe_one(files: dict[str, bytes]) -> tuple[Description, list[str]]:
    """What is said of a.jpg in a folder with these sidecars, out of memory, and what is wrong with them."""
    problems: list[str] = []
    folder = FolderSidecars()
    for name in files:
        folder.add(name)
    sidecars = Sidecars(lambda names, limits: [files[name] for name in names], lambda name, text: problems.append(text))
    sidecars.enter("", folder)
    (description,) = sidecars.describe(["a.jpg"])
    sidecars.close()
    return description, problems


def test_a_sidecar_that_cannot_be_read_leaves_the_image_partly_described() -> None:
    problems: list[str] = []
    folder = FolderSidecars()
    for name in ("metadata.csv", "a.txt"):
        folder.add(name)
    refused = ImageTooLarge("too large")
    sidecars = Sidecars(lambda names, limits: [refused for _ in names], lambda name, text: problems.append(name))
    sidecars.enter("x/", folder)
    assert sidecars.describe(["a.jpg", "b.jpg"]) == [Description(partial=True)] * 2
    assert problems == ["x/metadata.csv", "x/a.txt"]


_CONTENT = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from([
        b"file_name", b"a.jpg", b",", b"\n", b"\r\n", b'"', b"{", b"}", b"[", b"]", b":", b"\0", b"\xff",
        b"\xef\xbb\xbf",
        b'"a.jpg"', b'"file_name"', b'"caption"', b'"metadata"', b"null", b"NaN", b"-1e999", b"9" * 5000, b"[" * 3000,
        b'{"file_name": "a.jpg", "x": 1}\n', b"file_name,x\na.jpg,1\n", b'"\\ud800"', b"x" * 140_000,
    ]), max_size=12).map(b"".join),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from(["metadata.csv", "metadata.jsonl", "a.json", "a.jpg.json", "a.txt"]), _CONTENT))
def test_any_bytes_in_sidecars_give_a_description_or_a_problem(files: dict[str, bytes]) -> None:
    description, problems = describe_one(files)
    assert description.caption is None or description.caption.strip()
    assert not description.partial or problems


_NAMES = st.lists(st.text(st.characters(blacklist_characters="/")), max_size=60)


@settings(max_examples=100)
@given(_NAMES, _NAMES)
def test_packed_names_come_back_in_order_and_sorted_as_any(names: list[str], others: list[str]) -> None:
    many = [f"{name}{number}" for number in range(40) for name in names]
    packed = PackedTexts(many)
    assert list(packed) == many
    assert [packed[position] for position in range(len(many))] == many
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clip_qdrant_ingestion.packed_texts._RUN", 7)
        assert list(sort_texts(many)) == sorted(many)
    known = TextSet()
    for name in names:
        known.add(name)
    assert [name in known for name in names + others] == [name in names for name in names + others]


def test_numbers_in_a_table_are_text_in_a_field_of_texts(tmp_path: Path, memory_client: QdrantBase) -> None:
    files: dict[str, str | bytes] = {"metadata.csv": "file_name,sku,year\na.png,12,2024\nb.png,7,2025\n"}
    descriptions(tmp_path, files)
    for name, colour in (("a", "red"), ("b", "blue")):
        write_image(tmp_path / f"{name}.png", colour)
    collection = ImageCollection("photos", FakeEmbedder(), memory_client, fields={"sku": "keyword"})
    report = ingest(FolderSource(tmp_path), collection)
    assert (report.added, report.quarantined) == (2, ())
    hit = collection.get(tmp_path / "a.png")
    assert hit is not None
    assert hit.metadata == {"sku": "12", "year": 2024}
    assert ingest(FolderSource(tmp_path), collection).skipped == 2


def test_a_value_of_a_lower_table_has_no_text_of_an_upper_one() -> None:
    lower = Description(metadata={"n": 1, "m": 2}, written={"n": "1", "m": "2"})
    assert Description(metadata={"n": 5}).over(lower).written == {"m": "2"}
    assert Description(texts={"m": "x"}).over(lower).written == {"n": "1"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("captions.csv", "image,caption\nred.png,a red one\n"),
        ("captions.tsv", 'image\tcaptions\nred.png\t["a red one", "all red"]\n'),
        ("Captions.JSONL", '{"file_name": "red.png", "text": "a red one"}\n'),
    ],
)
def test_a_captions_file_that_trains_describes_the_images_of_its_folder(tmp_path: Path, name: str, text: str) -> None:
    described, problems = describe(tmp_path, {"red.png": "", name: text})
    assert (described["red.png"][0], problems) == ("a red one", [])


def test_metadata_wins_over_captions(tmp_path: Path) -> None:
    files = {"a.jpg": "", "captions.csv": "image,caption,n\na.jpg,c,1\n", "metadata.csv": "image,caption\na.jpg,m\n"}
    described, _ = describe(tmp_path, files)
    assert described["a.jpg"] == ("m", {"n": 1})


def test_cells_that_hold_lists_are_lists() -> None:
    table = parse_csv('file,tags,n\na.jpg,"[""x"", ""y""]",1\nb.jpg,z,"[2, 3]"\nc.jpg,[none],4\n')
    assert [row.metadata for row in table.rows.values()] == [
        {"tags": ["x", "y"], "n": 1},
        {"tags": "z", "n": [2, 3]},
        {"tags": "[none]", "n": 4},
    ]
