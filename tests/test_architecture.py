"""docs/architecture.md holds: the map has every folder, and every path and name in it is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MAP = TEXT.partition("## The map")[2].split("```")[1]
HOMES = {
    "clip_qdrant": ROOT,
    "clip_qdrant_ingestion": ROOT / "ingestion",
    "clip_qdrant_training": ROOT / "training",
}
PLACES = sorted({place for place in re.findall(r"`([\w./-]+/[\w./-]+(?::\w+)?)`", TEXT) if not place.endswith("/")})


def paths_of_map() -> list[Path]:
    """The folders and files at the starts of the lines of the map."""
    found: list[Path] = []
    top = ROOT
    for line in filter(None, MAP.splitlines()):
        names = re.match(r"\s*((?:[\w./-]+ )*[\w./-]+)(?:  |$)", line)
        assert names is not None, line
        for name in names[1].split():
            if not line.startswith(" "):
                top = HOMES.get(name.rstrip("/"), ROOT) / name
                found.append(top)
            else:
                found.append(top / name)
    return found


def test_everything_in_the_map_is_there() -> None:
    assert [path for path in paths_of_map() if not path.exists()] == []


def test_the_map_has_every_folder_of_the_packages() -> None:
    folders = {path.parent for name, home in HOMES.items() for path in (home / name).rglob("__init__.py")}

    assert folders - set(paths_of_map()) == set()


@pytest.mark.parametrize("place", PLACES)
def test_every_place_that_is_named_exists(place: str) -> None:
    path, _, name = place.partition(":")

    assert (ROOT / path).exists()
    if name:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        defined |= {
            node.target.id
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        assert name in defined


def test_there_are_places_to_check() -> None:
    assert len(PLACES) > 40


def test_the_modules_that_a_package_names_in_its_first_lines_are_there() -> None:
    wrong = {}
    for name, home in HOMES.items():
        for path in (home / name).rglob("__init__.py"):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            named = re.findall(r"(?<![\w/])(\w+\.py|\w+/)(?=[\s,]|$)", text)
            wrong[path.parent] = [each for each in named if not (path.parent / each).exists()]

    assert {folder: missing for folder, missing in wrong.items() if missing} == {}
