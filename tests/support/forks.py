"""Processes that share their imports: each is a fork of one that has imported everything and done nothing.

A fork takes hundredths of a second. A new process takes a second for a store or a server, eight for a network.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TextIO

__all__ = ["FORKS", "PROGRAM", "Fork", "preload", "run_fork", "start_fork"]

FORKS = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
_IMPORTS = (
    "grpc",
    "pytest",
    "tokenizers",
    "clip_qdrant.cli.app",
    "clip_qdrant.embedder",
    "clip_qdrant.store.edge.process.client",
    "clip_qdrant_ingestion.run.ingest",
    "clip_qdrant_training.loop.trainer",
    "transformers.models.bert.modeling_bert",
)


PROGRAM = "from clip_qdrant.cli import main; main()"  # the command line, for `run_fork`


def preload() -> None:
    """Has the first process that is forked wait until all this is imported. One list, as there is one such process."""
    FORKS.set_forkserver_preload(list(_IMPORTS))


@dataclass
class Fork:
    """Python code that runs in a process of its own, or has run."""

    process: ForkServerProcess
    stdout: TextIO
    stderr: TextIO
    _errors: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def communicate(self) -> tuple[str, str]:
        """Waits until it ends; what it printed since somebody read last."""
        reader = threading.Thread(target=lambda: self._errors.append(self.stderr.read()))
        reader.start()
        out = self.stdout.read()
        reader.join()
        self.process.join()
        self.stdout.close()
        self.stderr.close()
        return out, "".join(self._errors)

    def kill(self) -> None:
        self.process.kill()


def start_fork(
    code: str, *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Fork:
    """As subprocess.Popen starts `python -c code arguments`; with its output as text."""
    pipes = [FORKS.Pipe(duplex=False) for _ in range(2)]
    theirs = [there for _, there in pipes]
    argv = ["-c", *map(str, arguments)]
    process = FORKS.Process(
        target=_execute, args=(code, argv, str(cwd or Path.cwd()), dict(os.environ if env is None else env), theirs)
    )
    process.start()
    for there in theirs:
        there.close()
    out, errors = (_as_text(here) for here, _ in pipes)
    return Fork(process, out, errors)


def run_fork(
    code: str, *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[int | None, str, str]:
    """The exit code of what `start_fork` starts, its stdout and its stderr."""
    fork = start_fork(code, *arguments, cwd=cwd, env=env)
    out, errors = fork.communicate()
    return fork.returncode, out, errors


def _as_text(end: Connection) -> TextIO:
    return os.fdopen(os.dup(end.fileno()), encoding="utf-8", errors="surrogateescape")


def _execute(code: str, argv: list[str], cwd: str, env: dict[str, str], ends: list[Connection]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, end in enumerate(ends, start=1):
        os.dup2(end.fileno(), number)
        end.close()
    sys.argv = argv
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding="utf-8", line_buffering=number == 2)
        for number in (1, 2)
    )
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
