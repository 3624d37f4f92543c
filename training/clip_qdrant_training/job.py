"""What a run is given: where it starts, what it learns from and how, and where its best goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import DualEncoder
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.mixture import Mixture, Part
from clip_qdrant_training.data.pairs import Pair
from clip_qdrant_training.network.kinds.published import find_scalar

__all__ = ["TrainingJob"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """`start` is left as it is, and settles what `config` leaves to it (`TrainConfig.settle`). Without `validation`
    pairs the last epoch counts as the best; see `with_validation`.

    `teacher` is the model that `config.distill` learns from, by default the start. `trained_on` is the label of the
    pairs: the checkpoint keeps it behind the labels of its start. `output` is where to write the best checkpoint, in
    float16 with `half`. With `graphs` what is written carries its encoders in the end, and so runs without torch; where
    the start brings none along they are made, which takes 10 to 60 s.
    """

    start: Checkpoint
    pairs: Sequence[Pair] | Mixture
    validation: Sequence[Pair] | None = None
    config: TrainConfig = field(default_factory=TrainConfig)
    teacher: Checkpoint | None = None
    trained_on: str = "own pairs"
    output: Path | None = None
    half: bool = False
    graphs: bool = False

    def __post_init__(self) -> None:
        model = self.start.model
        published = not isinstance(model, DualEncoder)
        biased = published and find_scalar(model, "logit_bias") is not None
        object.__setattr__(self, "config", self.config.settle(published=published, biased=biased))

    @cached_property
    def mixture(self) -> Mixture:
        """The pairs as a mixture, of one part if they are a sequence."""
        return self.pairs if isinstance(self.pairs, Mixture) else Mixture([Part(list(self.pairs))])

    def with_validation(self) -> TrainingJob:
        """The job itself, or where it has no validation pairs one with a part of its pairs held out to judge by."""
        if self.validation is not None:
            return self
        mixture, held = self.mixture.hold_out(self.config.hold_out, self.config.seed)
        if not held:
            return self
        logger.warning(
            "no validation pairs are given: %d of the %d images are held out to judge each epoch by, and not learned "
            "from (hold_out=0, on a command line --set hold_out=0, learns from all)",
            len(held),
            len(self.mixture.pairs),
        )
        return replace(self, pairs=mixture, validation=held)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the trained checkpoint says it was trained on."""
        return tuple(dict.fromkeys((*self.start.trained_on, self.trained_on)))
