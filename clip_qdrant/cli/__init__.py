"""The command line, `clip-qdrant` or `python -m clip_qdrant.cli`.

app.py        the program: its options, its commands, `main`
failures.py   exit codes, and how an error is told
wiring.py     settings -> client, embedder, collection: the one place where they are put together
output.py     tables, JSON, and text from outside made safe for a terminal
ingest.py search.py info.py training.py evaluate.py demo.py    the commands; rehearsal.py checks before a training
"""

from clip_qdrant.cli.app import main, run

__all__ = ["main", "run"]
