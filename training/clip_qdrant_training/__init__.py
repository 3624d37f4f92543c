"""Training and judging dual encoders on image-text pairs."""

from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data import Mixture, Pair, read_pairs
from clip_qdrant_training.evaluate import evaluate, recall
from clip_qdrant_training.fit import fit
from clip_qdrant_training.loop import train
from clip_qdrant_training.reports import EpochReport, RunStart, StepReport, Watcher

__all__ = [
    "EpochReport",
    "Mixture",
    "Pair",
    "RunStart",
    "StepReport",
    "TrainConfig",
    "Watcher",
    "evaluate",
    "fit",
    "read_pairs",
    "recall",
    "train",
]
