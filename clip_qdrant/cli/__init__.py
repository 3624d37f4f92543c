"""The command line, `clip-qdrant` or `python -m clip_qdrant.cli`.

app.py        the program: its options, its commands, `main`
failures.py   exit codes, and how an error is told
wiring.py     settings -> client, embedder, collection: the one place where they are put together
output.py     tables, JSON, and text from outside made safe for a terminal
search.py info.py demo.py    commands; those of ingestion and training live in the `cli` of their packages
"""

from clip_qdrant.cli.app import main, run

__all__ = ["main", "run"]
