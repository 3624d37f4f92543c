"""What a run is given: where it starts, what it learns from and how, and where its best goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.mixture import Mixture, Part
from clip_qdrant_training.data.pairs import Pair

__all__ = ["TrainingJob"]


@dataclass(frozen=True)
class TrainingJob:
    """`start` is left as it is. Without `validation` pairs the last epoch counts as the best.

    `teacher` is the model that `config.distill` learns from, by default the start. `trained_on` is the label of the
    pairs: the checkpoint keeps it behind the labels of its start. `output` is where to write the best checkpoint, in
    float16 with `half`.
    """

    start: Checkpoint
    pairs: Sequence[Pair] | Mixture
    validation: Sequence[Pair] | None = None
    config: TrainConfig = field(default_factory=TrainConfig)
    teacher: Checkpoint | None = None
    trained_on: str = "own pairs"
    output: Path | None = None
    half: bool = False

    @cached_property
    def mixture(self) -> Mixture:
        """The pairs as a mixture, of one part if they are a sequence."""
        return self.pairs if isinstance(self.pairs, Mixture) else Mixture([Part(list(self.pairs))])

    @property
    def labels(self) -> tuple[str, ...]:
        """What the trained checkpoint says it was trained on."""
        return tuple(dict.fromkeys((*self.start.trained_on, self.trained_on)))
