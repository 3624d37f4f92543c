"""Training and judging dual encoders on image-text pairs."""

from clip_qdrant_training.data import Pair, read_pairs
from clip_qdrant_training.evaluate import evaluate, recall
from clip_qdrant_training.loop import EpochReport, TrainConfig, fit, train

__all__ = ["EpochReport", "Pair", "TrainConfig", "evaluate", "fit", "read_pairs", "recall", "train"]
