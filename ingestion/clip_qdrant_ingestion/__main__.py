"""The worker: `python -m clip_qdrant_ingestion`, the same as `clip-qdrant ingest`. Its settings may all come from
CLIP_QDRANT_* variables or a TOML file."""

from __future__ import annotations

import sys

from clip_qdrant.cli import run

if __name__ == "__main__":
    sys.exit(run(["ingest", *sys.argv[1:]]))
