"""Training and judging dual encoders on image-text pairs."""

from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.check import check
from clip_qdrant_training.data.read import Mixture, Pair, read_pairs
from clip_qdrant_training.evaluation.judge import judge
from clip_qdrant_training.evaluation.matches import draw_matches, find_matches
from clip_qdrant_training.evaluation.recall import evaluate, recall
from clip_qdrant_training.events import EpochReport, RunStart, StepReport, Watcher
from clip_qdrant_training.fit import fit
from clip_qdrant_training.loop.lr_range import lr_range_test
from clip_qdrant_training.loop.trainer import train
from clip_qdrant_training.output.report import run_report
from clip_qdrant_training.run import run_training

__all__ = [
    "EpochReport",
    "Mixture",
    "Pair",
    "RunStart",
    "StepReport",
    "TrainConfig",
    "Watcher",
    "check",
    "draw_matches",
    "evaluate",
    "find_matches",
    "fit",
    "judge",
    "lr_range_test",
    "read_pairs",
    "recall",
    "run_report",
    "run_training",
    "train",
]
