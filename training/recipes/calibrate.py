"""Measures what a cosine similarity of a checkpoint is worth, and writes it into the file, with the prompts of short
queries and the bias of all; its vectors and fingerprint stay as they are.

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
from clip_qdrant.collection.query import embed_query_texts
from clip_qdrant.model.loading import load_checkpoint
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.model_inputs.prompts import Prompts
from clip_qdrant_training import read_pairs
from clip_qdrant_training.data.read import Pair, image_input
from clip_qdrant_training.evaluation.recall import owners

CALIBRATED_ON = 500  # pairs
PROMPTS = Prompts(("a {}.", "a photo of a {}.", "a picture of a {}."), longest=2)
BIAS = 0.3  # of the mean of improbable texts; see docs/decisions/0033-bias-of-texts.md


def calibrate(embedder: ClipEmbedder, pairs: list[Pair]) -> tuple[Prompts, Calibration]:
    """The prompts, with their bias, and the calibration of queries that are made by these."""
    embedder.prompts = PROMPTS
    mean = embed_query_texts(IMPROBABLE_TEXTS, embedder).mean(axis=0)
    embedder.prompts = replace(PROMPTS, bias=tuple(round(float(BIAS * part), 5) for part in mean))
    captions = [caption for pair in pairs for caption in pair.captions]
    found = measure_calibration(
        embedder.embed_images(image_input(pair.image) for pair in pairs),
        embed_query_texts(captions, embedder, unit=False),
        owners=owners(pairs),
        improbable=embed_query_texts(IMPROBABLE_TEXTS, embedder, unit=False),
    )
    assert found is not None, "the split has 1,000 images"
    return embedder.prompts, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("checkpoint", type=Path)
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.data / "flickr8k" / "dev.jsonl")[:CALIBRATED_ON]
    prompts, found = calibrate(ClipEmbedder.load(arguments.checkpoint), pairs)
    checkpoint = replace(load_checkpoint(arguments.checkpoint), calibration=found, prompts=prompts)
    fingerprint = save_checkpoint(checkpoint, arguments.checkpoint, half=True)
    print(f"a likely match has a relevance of at least {found.cutoff:.4f}, a cosine of {found.score(found.cutoff):.3f}")
    print(f"{arguments.checkpoint}: fingerprint {fingerprint[:12]}")


if __name__ == "__main__":
    main()
