"""docs/embedded.md tells the truth: each cell of its tables is what the client does when it is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import qdrant_calls
from qdrant_client import models
from qdrant_client.client_base import QdrantBase

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "embedded.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
GROUPS = {
    "Methods": qdrant_calls.METHODS,
    "Queries": qdrant_calls.QUERIES,
    "Conditions": qdrant_calls.CONDITIONS,
    "Payload indexes": qdrant_calls.INDEXES,
    "Options": qdrant_calls.OPTIONS,
}
# These change nothing, so one collection serves them all.
READING = {*GROUPS["Queries"], *GROUPS["Conditions"], *qdrant_calls.CLUSTER}


def table(group: str) -> dict[str, tuple[str, ...]]:
    """The rows of a section: what, and the cells embedded, local mode and server."""
    section = TEXT.partition(f"### {group}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| (.+?) \| (\w+) \| (\w+) \| (\w+) \|$", section, re.MULTILINE)
    return {what.replace("`", ""): tuple(cells) for what, *cells in rows}


def cells(client: QdrantBase, name: str, group: str) -> dict[str, str]:
    """What a client does with each row of a group."""
    qdrant_calls.make_photos(client, name)
    found = {}
    for number, (row, call) in enumerate(GROUPS[group].items()):
        of_its_own = name if row in READING else f"{name}_{number}"
        if of_its_own != name:
            qdrant_calls.make_photos(client, of_its_own)
        found[row] = qdrant_calls.can(call, client, of_its_own)
    return found


def column(group: str, number: int) -> dict[str, str]:
    return {row: cells[number] for row, cells in table(group).items()}


@pytest.mark.parametrize("group", GROUPS)
def test_a_table_has_a_row_for_each_thing_and_no_other(group):
    assert list(table(group)) == list(GROUPS[group])


def test_every_method_of_the_protocol_and_every_query_has_a_row():
    methods = {name for name in vars(QdrantBase) if not name.startswith("_")}
    queries = {one.__name__ for one in get_args(models.Query)}

    assert set(qdrant_calls.METHODS) == methods
    assert queries <= {row.partition(",")[0].partition(" ")[0] for row in qdrant_calls.QUERIES}


@pytest.mark.parametrize("group", GROUPS)
def test_the_embedded_store_does_what_the_page_says(edge_client, group):
    assert cells(edge_client, "photos", group) == column(group, 0)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("group", GROUPS)
def test_local_mode_does_what_the_page_says(memory_client, group):
    assert cells(memory_client, "photos", group) == column(group, 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("group", GROUPS)
def test_a_server_does_what_the_page_says(server_client, collection_name, group, monkeypatch):
    skipped = {*qdrant_calls.CLUSTER, "close"}
    monkeypatch.setitem(GROUPS, group, {row: call for row, call in GROUPS[group].items() if row not in skipped})

    found = cells(server_client, collection_name, group)

    assert found == {row: cell for row, cell in column(group, 2).items() if row not in skipped}


def test_the_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"docs/embedded.md, example {number + 1}", "exec"), names)
