"""The command line, `clip-qdrant` or `python -m clip_qdrant`.

app.py        the program: its options, its commands, `main`
failures.py   exit codes, and how an error is told
wiring.py     settings -> client, embedder, collection: the one place where they are put together
output.py     tables, JSON, and text from outside made safe for a terminal
columns.py    the columns of a table of hits
examples.py   command lines that --help shows
search.py info.py drop.py repair.py export.py demo.py    commands; others are in the `cli` of ingestion and training
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["main", "run"]


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and gives its exit code. `arguments` are those of the process by default."""
    _obey_sigterm()
    from clip_qdrant.cli import app  # takes long enough for a signal to come

    return app.run(arguments)


def main() -> None:
    """The entry point of the program."""
    sys.exit(run())


def _obey_sigterm() -> None:
    """For the first process of a container SIGTERM does nothing until it is handled; any other it ends by itself."""
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
