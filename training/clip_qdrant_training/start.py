"""`fit`: from pairs and options to a trained checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clip_qdrant.content import BUNDLED
from clip_qdrant.errors import ConfigError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.loading import read_checkpoint
from clip_qdrant.model.new import new_checkpoint
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.read import Mixture, Part, as_pairs
from clip_qdrant_training.job import TrainingJob
from clip_qdrant_training.loop.trainer import train
from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, Watcher
from clip_qdrant_training.run import run_training

__all__ = ["fit", "read_start", "read_teacher"]


def fit(
    pairs: Any,
    *,
    validation: Any = None,
    start: Checkpoint | str | Path | None = None,
    recipe: str | Path | None = None,
    output: str | Path | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[EpochReport], None] | None = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> Checkpoint:
    """Train on `pairs` and return the best checkpoint by mean recall on `validation`, the start among them.

    Without `validation` a part of the pairs is held out to judge by (`hold_out`, an option), which the log says; of
    fewer than six, or with hold_out=0, none is, and the last checkpoint is returned.

    `pairs` and `validation`: a path that `read_pairs` knows, an iterable of (image, caption or captions), or a Mixture.
    `start`: a checkpoint or its path, by default the bundled weights; `image_encoder` and `text_encoder` among the
    options start anew instead. `recipe`: the name of a recipe or a .toml file; `options`: fields of TrainConfig, which
    win over it. `output`: where to write the best, with its encoders, by which it runs without torch. `run`: a folder
    for settings, log, pictures and state of the run, `resume` to go on from the state. `on_epoch` is told of each
    epoch, `watcher` of everything.

    Raises TrainingError for unusable pairs or a loss that is no number, ConfigError for unusable options.
    """
    config = TrainConfig.load(recipe, **options)
    label = Path(pairs).name if isinstance(pairs, (str, Path)) else "own pairs"
    mixture = pairs if isinstance(pairs, Mixture) else Mixture([Part(as_pairs(pairs), name=label)])
    judged = None if validation is None else as_pairs(validation)
    if resume and run is None:
        raise ConfigError("resume=True needs the run to go on with: run=FOLDER")
    job = TrainingJob(
        read_start(start, config),  # after the pairs, which may be wrong
        mixture,
        validation=judged,
        config=config,
        teacher=read_teacher(config),
        trained_on=label,
        output=None if output is None else Path(output),
        graphs=True,
    ).with_validation()
    follower = _OnEpoch(on_epoch) if watcher is None and on_epoch else watcher
    if run is None:
        return train(job, watcher=follower).checkpoint
    return run_training(job, Path(run), resume=resume, watchers=[follower] if follower else ())


def read_teacher(config: TrainConfig) -> Checkpoint | None:
    """Who a run learns from besides its pairs, if the config names one."""
    return None if config.teacher is None else read_checkpoint(config.teacher)


def read_start(start: Checkpoint | str | Path | None, config: TrainConfig) -> Checkpoint:
    """What a run begins from: a checkpoint, its path, the bundled weights (None), or new heads on new encoders."""
    if config.image_encoder or config.text_encoder:
        if start is not None:
            raise ConfigError("give a start, or encoders to start anew from, not both")
        image, text = config.image_encoder or "resnet50", config.text_encoder or "distilbert-base-uncased"
        return new_checkpoint(
            image,
            text,
            dim=config.dim,
            pooling=config.pooling,
            pretrained=config.pretrained,
            image_size=config.image_size,
            interpolation=None if config.interpolation == "auto" else config.interpolation,
            seed=config.seed,
        )
    if isinstance(start, Checkpoint):
        return start
    return read_checkpoint(BUNDLED if start is None else str(start))


class _OnEpoch:
    """A watcher that tells one function of epochs alone."""

    def __init__(self, tell: Callable[[EpochReport], None]) -> None:
        self._tell = tell

    def started(self, run: RunStart) -> None:
        pass

    def stepped(self, report: StepReport) -> None:
        pass

    def epoch_ended(self, report: EpochReport) -> None:
        self._tell(report)

    def ended(self) -> None:
        pass
