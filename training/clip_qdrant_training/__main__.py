"""`python -m clip_qdrant_training ARGS` is `clip-qdrant train ARGS`: what torchrun can start in several processes.

torchrun --nproc-per-node 2 -m clip_qdrant_training train.jsonl --val dev.jsonl --output mine.pt
"""

import sys

from clip_qdrant.cli import run

sys.exit(run(["train", *sys.argv[1:]]))
