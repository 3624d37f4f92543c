"""docs/training.md says what is there: every option with its default, commands that parse, names that exist."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

import clip_qdrant_training
from clip_qdrant.cli.app import app
from clip_qdrant.errors import ConfigError
from clip_qdrant_training.config import TrainConfig, recipe_path
from clip_qdrant_training.run import __doc__ as run_folder

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
OPTIONS = re.findall(r"^\| `(\w+)` \| `(.+?)` \| .+ \|$", TEXT, re.MULTILINE)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
PYTHON = [block for language, block in BLOCKS if language == "python"]


def test_every_option_of_training_is_in_the_table_and_no_other() -> None:
    assert [name for name, _ in OPTIONS] == [item.name for item in fields(TrainConfig)]


@pytest.mark.parametrize(("name", "default"), OPTIONS)
def test_a_default_is_told_as_set_takes_it(name: str, default: str) -> None:
    assert TrainConfig.load(None, [f"{name}={default}"]) == TrainConfig()


def test_a_default_that_were_another_would_be_noticed() -> None:
    assert TrainConfig.load(None, ["epochs=11"]) != TrainConfig()
    with pytest.raises(ConfigError):
        TrainConfig.load(None, ["epochs=none"])


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses_and_its_recipe_and_changes_are_there(line: str) -> None:
    program: Any = typer.main.get_command(app)
    torchrun = line.startswith("torchrun ")
    arguments = shlex.split(line.partition("-m clip_qdrant_training ")[2] if torchrun else line)[0 if torchrun else 2 :]

    context = program.commands["train"].make_context("train", arguments)

    assert context.params["data"]
    recipe = context.params["recipe"]
    if recipe and "/" not in recipe:
        assert recipe_path(recipe).is_file()
    TrainConfig.load(None, context.params["changes"] or ())


@pytest.mark.parametrize("code", PYTHON)
def test_the_names_that_python_examples_import_exist(code: str) -> None:
    imports = [node for node in ast.parse(code).body if isinstance(node, ast.ImportFrom)]

    assert imports
    for node in imports:
        assert all(hasattr(importlib.import_module(str(node.module)), alias.name) for alias in node.names)


def test_the_files_of_a_run_are_those_that_its_module_names() -> None:
    section = TEXT.partition("## The folder of a run")[2].partition("\n## ")[0]

    assert re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE) == re.findall(
        r"^ +([\w.]+)  ", str(run_folder), re.MULTILINE
    )


def test_links_lead_to_files() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)

    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []


@pytest.mark.parametrize("name", clip_qdrant_training.__all__)
def test_every_name_that_the_package_exports_is_there(name: str) -> None:
    assert getattr(clip_qdrant_training, name) is not None
    assert sorted(clip_qdrant_training.__all__) == clip_qdrant_training.__all__
