"""What messages advise can be done: the commands and options that they name are those of the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from clip_qdrant.cli.app import app

ROOT = Path(__file__).parents[2]
PACKAGES = ("clip_qdrant", "ingestion/clip_qdrant_ingestion", "training/clip_qdrant_training")
PROGRAM: Any = typer.main.get_command(app)
# Options of tar, torchrun and TensorBoard.
FOREIGN = {"--dereference", "--hard-dereference", "--sparse", "--sort", "--nproc-per-node", "--logdir"}


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the code of the three packages, with its file."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.parent.name == "pages":  # their CSS has names that look like options
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield str(path.relative_to(ROOT)), node.value


def test_every_option_that_a_message_names_is_one_of_the_program() -> None:
    commands = [PROGRAM, *PROGRAM.commands.values()]
    known = {name for command in commands for one in command.params for name in (*one.opts, *one.secondary_opts)}

    named = {(path, name) for path, text in texts() for name in re.findall(r"(?<![\w-])(?<!var\()--[a-z][a-z-]+", text)}
    assert not {(path, name) for path, name in named if name not in known | FOREIGN | {"--help"}}


def test_every_command_that_a_message_names_is_one_of_the_program() -> None:
    named = {(path, name) for path, text in texts() for name in re.findall(r"clip-qdrant ([a-z][a-z-]+)", text)}

    words = {"reads", "again"}  # "this clip-qdrant reads version 1", "install clip-qdrant again"
    assert not {(path, name) for path, name in named if name not in {*PROGRAM.commands, *words}}


def test_field_types_are_said_to_be_declared_in_python() -> None:
    advice = [text for _, text in texts() if re.search(r"\bdeclare the field as \w+", text)]

    assert advice
    assert all("in Python" in text for text in advice)
