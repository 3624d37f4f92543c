"""Measures what a cosine similarity of a checkpoint is worth, and writes it into the file, with the prompts of short
queries; its vectors and fingerprint stay as they are.

    python training/recipes/calibrate.py DATA content/best.pt

The pairs are the first half of the Flickr8k dev split, so that the other half can say how well it does
(benchmarks/relevance.py). bundled.py does the same at its end.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from clip_qdrant import ClipEmbedder
from clip_qdrant.calibration.curves import Calibration, measure_calibration
from clip_qdrant.calibration.improbable_texts import IMPROBABLE_TEXTS
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant_training import read_pairs
from clip_qdrant_training.data.read import Pair
from clip_qdrant_training.evaluation.recall import embed_pairs, owners

CALIBRATED_ON = 500  # pairs
PROMPTS = Prompts(("a {}.", "a photo of a {}.", "a picture of a {}."), longest=2)


def calibrate(embedder: ClipEmbedder, pairs: list[Pair]) -> Calibration:
    images, texts = embed_pairs(embedder, pairs)
    found = measure_calibration(images, texts, owners=owners(pairs), improbable=embedder.embed_texts(IMPROBABLE_TEXTS))
    assert found is not None, "the split has 1,000 images"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("checkpoint", type=Path)
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.data / "flickr8k" / "dev.jsonl")[:CALIBRATED_ON]
    found = calibrate(ClipEmbedder.load(arguments.checkpoint), pairs)
    checkpoint = replace(load_checkpoint(arguments.checkpoint), calibration=found, prompts=PROMPTS)
    fingerprint = save_checkpoint(checkpoint, arguments.checkpoint, half=True)
    print(f"a likely match has a relevance of at least {found.cutoff:.4f}, a cosine of {found.score(found.cutoff):.3f}")
    print(f"{arguments.checkpoint}: fingerprint {fingerprint[:12]}")


if __name__ == "__main__":
    main()
