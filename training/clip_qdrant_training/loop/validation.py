"""The judgement of each epoch on the validation pairs, and the best checkpoint so far."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clip_qdrant.calibration.curves import measure_calibration
from clip_qdrant.errors import ExportError, MissingExtra
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.saving import save_checkpoint, take_graphs
from clip_qdrant.runtime.onnx_export import make_graphs
from clip_qdrant_training.evaluation.recall import owners, recall
from clip_qdrant_training.inputs.samples import Samples
from clip_qdrant_training.job import TrainingJob
from clip_qdrant_training.loop.state import BEST
from clip_qdrant_training.loop.step import Learner
from clip_qdrant_training.network.adapters import load_merged
from clip_qdrant_training.network.weights import mix_weights
from clip_qdrant_training.progress import Mix

__all__ = ["TrainingOutcome", "Validation"]

logger = logging.getLogger(__name__)

_SHARES = tuple(tenths / 10 for tenths in range(11))


@dataclass(frozen=True)
class TrainingOutcome:
    """A finished run: the best checkpoint, and the unit rows of the validation pairs it was judged by, if any."""

    checkpoint: Checkpoint
    images: np.ndarray | None = None  # (pairs, dim), float32
    texts: np.ndarray | None = None  # (captions, dim), float32
    mixes: tuple[Mix, ...] = ()  # of start and end, where the config asks for them


class Validation:
    """Judges the network at the start, as epoch 0, and after each epoch. The main process does so, and writes the best;
    the others are told.

    `scores` has one of each epoch that was trained. Without validation pairs each epoch is better than the one before
    it, and the start is not judged.
    """

    def __init__(self, job: TrainingJob, learner: Learner, run: Path | None) -> None:
        self._learner = learner
        self._pairs = list(job.validation or ())
        self._paths = [path for path in (job.output, run and run / BEST) if path]
        self._half = job.half
        folder = run / "cache" if run else None
        self._samples = (
            Samples(learner.encoders, self._pairs, learner.towers, job.config, views=1, folder=folder)
            if self._pairs
            else None
        )
        self.scores: list[float] = []
        self.best_epoch = 0
        self._best_score = -math.inf
        self._best: TrainingOutcome | None = None

    def close(self) -> None:
        if self._samples:
            self._samples.close()

    def judge(self, epoch: int) -> tuple[Mapping[str, float], bool]:
        """The recalls on the validation pairs, and whether they are the best so far. Judges averaged weights if there
        are any."""
        learner = self._learner
        improved, metrics, score = False, {}, 0.0
        if learner.processes.main:
            with learner.average():
                images, texts = self._samples.all_rows() if self._samples else (None, None)
                if images is not None and texts is not None:
                    metrics = recall(images, texts, owners(self._pairs))
                score = sum(metrics.values()) if metrics else float(epoch)
                improved = score > self._best_score
                if improved:
                    self._best = None  # no room for two beside the network
                    checkpoint = self._describe(learner.checkpoint(trained=epoch > 0), metrics, images, texts)
                    self._best, self._best_score, self.best_epoch = (
                        TrainingOutcome(checkpoint, images, texts),
                        score,
                        epoch,
                    )
                    self.write()
        score = learner.processes.agree(score)
        if epoch:
            self.scores.append(score)
        self.best_epoch = learner.processes.agree(self.best_epoch)
        return metrics, improved

    def mix(self) -> tuple[Sequence[Mix], float]:
        """Judges mixes of the start and the best epoch, or the last one where the start is the best. The best mix is
        the best of the run if it is better than that was. Returns all, and the share of the end in that; else 0.

        The main process alone has them.
        """
        learner, best = self._learner, self._best
        mixes: Sequence[Mix] = ()
        chosen = 0.0
        if learner.processes.main and self._samples:
            assert best is not None
            with learner.average():
                checkpoint = best.checkpoint if self.best_epoch else learner.checkpoint()
                start = {name: each.cpu() for name, each in learner.start.model.state_dict().items()}
                end = checkpoint.model.state_dict()
                before = {name: each.clone() for name, each in learner.model.state_dict().items()}
                try:
                    mixes = [self._judge_mix(share, mix_weights(start, end, share)) for share in _SHARES]
                finally:
                    learner.model.load_state_dict(before)
            assert self._best is not None
            self._best = replace(self._best, mixes=tuple(mixes))
            if self._best.checkpoint is not best.checkpoint:
                chosen = next(mix.share for mix in mixes if mix.metrics == self._best.checkpoint.metrics)
                self.write()
        self.best_epoch = learner.processes.agree(self.best_epoch)
        return mixes, chosen

    def _judge_mix(self, share: float, weights: Mapping[str, Tensor]) -> Mix:
        assert self._samples
        load_merged(self._learner.model, weights)
        images, texts = self._samples.all_rows()
        metrics = recall(images, texts, owners(self._pairs))
        score = sum(metrics.values())
        if score > self._best_score:
            checkpoint = self._describe(self._learner.checkpoint(weights), metrics, images, texts)
            self._best, self._best_score = TrainingOutcome(checkpoint, images, texts), score
            self.best_epoch = self.best_epoch or len(self.scores)
        return Mix(share, metrics)

    @property
    def judges(self) -> bool:
        """Whether there are pairs to judge by."""
        return bool(self._pairs)

    def write(self) -> None:
        """Writes the best, if there is one, to the output and to the folder of the run."""
        if self._best and self._learner.processes.main:
            for path in self._paths:
                save_checkpoint(self._best.checkpoint, path, half=self._half)

    def add_graphs(self) -> None:
        """Writes the best once more with its encoders, unless it brings them along from the start."""
        best = self._best
        if best is None or not self._paths or not self._learner.processes.main or take_graphs(best.checkpoint):
            return
        logger.warning("adding its encoders to %s, which then runs without torch: 10 to 60 s", self._paths[0])
        try:
            graphs = make_graphs(best.checkpoint)
        except (ExportError, MissingExtra) as error:
            logger.warning("%s stays without them, and runs on torch alone: %s", self._paths[0], error)
            return
        self._best = replace(best, checkpoint=replace(best.checkpoint, graphs=graphs))
        self.write()

    def share(self) -> TrainingOutcome:
        """The best of the main process, in every process: a script goes on in all of them."""
        processes = self._learner.processes
        packed = _pack(self._best) if processes.world > 1 else {}
        packed = processes.agree(packed)
        best = self._best if processes.main else self._unpack(packed)
        assert best is not None, "a run has at least one epoch"
        return best

    def waiting(self, epoch: int) -> int:
        """How many epochs before this one have improved nothing."""
        return epoch - 1 - self.best_epoch if self.judges else 0

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from."""
        return {
            "scores": self.scores,
            "best_score": self._best_score,
            "best_epoch": self.best_epoch,
            "best": _pack(self._best),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.scores = list(state["scores"])
        self._best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        self._best = self._unpack(state["best"])

    def _unpack(self, packed: Mapping[str, Any]) -> TrainingOutcome | None:
        if not packed:
            return None
        images, texts = (None if packed[name] is None else packed[name].numpy() for name in ("images", "texts"))
        checkpoint = self._learner.checkpoint(packed["weights"], trained=self.best_epoch > 0)
        mixes = tuple(Mix(share, metrics) for share, metrics in packed["mixes"])
        return TrainingOutcome(self._describe(checkpoint, packed["metrics"], images, texts), images, texts, mixes)

    def _describe(
        self, checkpoint: Checkpoint, metrics: Mapping[str, float], images: np.ndarray | None, texts: np.ndarray | None
    ) -> Checkpoint:
        """The checkpoint with what its vectors of the validation pairs tell of it."""
        calibration = None
        if images is not None and texts is not None:
            calibration = measure_calibration(images, texts, owners=owners(self._pairs))
        prompts = checkpoint.prompts and replace(checkpoint.prompts, bias=())  # that was of the start
        return replace(checkpoint, metrics=metrics, calibration=calibration, prompts=prompts)


def _pack(best: TrainingOutcome | None) -> dict[str, Any]:
    """The best so far in what a state may hold: tensors and plain containers."""
    if best is None:
        return {}
    return {
        "weights": best.checkpoint.model.state_dict(),
        "metrics": dict(best.checkpoint.metrics),
        "images": None if best.images is None else torch.from_numpy(best.images),
        "texts": None if best.texts is None else torch.from_numpy(best.texts),
        "mixes": [(mix.share, dict(mix.metrics)) for mix in best.mixes],
    }
