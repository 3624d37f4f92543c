"""`python -m clip_qdrant`: the same as `clip-qdrant`."""

from clip_qdrant.cli import main

main()
