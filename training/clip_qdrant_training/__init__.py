"""Training and judging dual encoders on image-text pairs.

Names are imported at their first use, so that the program shows its help without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clip_qdrant.telemetry import disable_telemetry
from clip_qdrant.torch_extra import require_torch

if TYPE_CHECKING:
    from clip_qdrant_training.config import TrainConfig
    from clip_qdrant_training.data.check import check
    from clip_qdrant_training.data.read import Mixture, Pair, read_pairs
    from clip_qdrant_training.evaluation.judge import judge
    from clip_qdrant_training.evaluation.matches import find_matches
    from clip_qdrant_training.evaluation.recall import evaluate, recall
    from clip_qdrant_training.job import TrainingJob
    from clip_qdrant_training.loop.trainer import train
    from clip_qdrant_training.lr_range import lr_range_test
    from clip_qdrant_training.output.grid import draw_matches
    from clip_qdrant_training.output.report import run_report
    from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, Watcher
    from clip_qdrant_training.run import run_training
    from clip_qdrant_training.start import fit

disable_telemetry()

__all__ = [
    "EpochReport",
    "Mixture",
    "Pair",
    "RunStart",
    "StepReport",
    "TrainConfig",
    "TrainingJob",
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

_HOMES = {
    "EpochReport": "progress",
    "Mixture": "data.read",
    "Pair": "data.read",
    "RunStart": "progress",
    "StepReport": "progress",
    "TrainConfig": "config",
    "TrainingJob": "job",
    "Watcher": "progress",
    "check": "data.check",
    "draw_matches": "output.grid",
    "evaluate": "evaluation.recall",
    "find_matches": "evaluation.matches",
    "fit": "start",
    "judge": "evaluation.judge",
    "lr_range_test": "lr_range",
    "read_pairs": "data.read",
    "recall": "evaluation.recall",
    "run_report": "output.report",
    "run_training": "run",
    "train": "loop.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError:
        require_torch(f"{__name__}.{name}")
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
