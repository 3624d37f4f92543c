"""The examples of docs/filters.md hold: both forms build one filter, and it selects what it should."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from clip_qdrant.errors import FilterError
from clip_qdrant.fields.derived import add_derived
from clip_qdrant.fields.schema import Schema
from clip_qdrant.filters.build import build_filter
from clip_qdrant.filters.conditions import OPERATORS

DOC = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
FIELDS = Schema(
    {
        "album": "keyword",
        "tags": "keyword",
        "year": "integer",
        "liked": "bool",
        "odd name": "keyword",
        "exif.camera": "keyword",
        "camera": "keyword",
        "tenant": "keyword",
    }
).payload_fields()
ROWS = re.findall(r"^\| (`.+?`+) \| `(\{.*?\})` \| ", DOC, re.MULTILINE)
PETS = {
    "caption": "The cat was SLEEPING",
    "taken_at": "2024-05-31T23:59:59+02:00",
    "location": {"lat": 52.521, "lon": 13.405},
    "metadata": {
        "album": "pets",
        "tags": ["cat", "red"],
        "year": 2024,
        "liked": True,
        "odd name": "x",
        "exif": {"camera": "X100"},
        "camera": "Canon EOS R6",
    },
}
OLD = {
    "caption": "asleep, a cat",
    "uri": "file:///photos/2021/sea.jpg",
    "taken_at": "2024-12-24T18:30:00-05:00",
    "metadata": {"album": "sea", "year": 2020},
}
BARE = {"caption": "黒い猫, sleeping", "location": {"lat": 0.0, "lon": 0.0}, "metadata": {"tags": []}}
SELECTED = [
    "P", "OB", "O", "O", "P", "P", "O", "P", "OB", "P", "B", "PO", "PO", "PO", "P", "B", "P", "O", "O",
    "P", "P", "P", "P", "O", "O", "POB", "O", "O", "P", "P", "P", "P", "P", "OB", "P",
]  # fmt: skip


def test_the_table_has_every_operator() -> None:
    texts = " ".join(text.replace("`", " ") for text, _ in ROWS)
    for field_type, operators in OPERATORS.items():
        described = " ".join(
            row for row in DOC.splitlines() if re.match(rf"\| (.*\b{field_type}\b|every)[^`]* \| `", row)
        )
        for operator in operators:
            assert f" {operator} " in texts
            assert f"`{operator}`" in described
    assert len(ROWS) == len(SELECTED)


@pytest.mark.parametrize(("row", "selected"), list(zip(ROWS, SELECTED, strict=False)))
def test_each_example_selects_the_same_as_text_and_as_dict(row: tuple[str, str], selected: str) -> None:
    text = re.sub(r"^(`+) ?(.*?) ?\1$", r"\2", row[0])
    built = build_filter(text, FIELDS)
    assert build_filter(ast.literal_eval(row[1]), FIELDS) == built
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config=models.VectorParams(size=2, distance=models.Distance.COSINE))
    payloads = {name: add_derived(payload, FIELDS) for name, payload in {"P": PETS, "O": OLD, "B": BARE}.items()}
    client.upsert(
        "c", [models.PointStruct(id=i, vector=[1, 0], payload=payload) for i, payload in enumerate(payloads.values())]
    )
    found, _ = client.scroll("c", scroll_filter=built)
    client.close()
    assert "".join("POB"[int(point.id)] for point in found) == selected


def test_the_python_examples_build() -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    wheres = [
        eval(ast.unparse(keyword.value), {"text_of_the_user": "year > 3"})
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
    ]
    assert len(wheres) == 3
    assert all(build_filter(where, FIELDS) is not None for where in wheres)


def test_the_error_looks_as_shown() -> None:
    shown = re.findall(r"```text\n(.*?)\n```", DOC, re.DOTALL)[0]
    with pytest.raises(FilterError) as raised:
        build_filter("album = pets and year >= 2022", FIELDS)
    assert str(raised.value) == shown
