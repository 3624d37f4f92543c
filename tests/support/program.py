"""The command line in this process: run it with arguments, look at its exit code and output."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeEmbedder

from clip_qdrant.cli import run, wiring


@dataclass(frozen=True)
class Outcome:
    """What a run left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Program:
    """`clip-qdrant` in an empty working folder, without settings from outside, on a FakeEmbedder."""

    folder: Path
    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)

    def __call__(self, *arguments: str | Path) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(argument) for argument in arguments])
        return Outcome(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def program_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    for name in list(os.environ):
        if name.startswith("CLIP_QDRANT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    program = Program(folder)
    monkeypatch.setattr(wiring, "open_embedder", lambda _: program.embedder)
    yield program
