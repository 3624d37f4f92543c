"""The training loop: go through the epochs, judge each, keep the best; stop and go on at any moment.

from clip_qdrant import ClipEmbedder
clip = ClipEmbedder.fit("train.jsonl", validation="dev.jsonl", output="mine.pt")
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.runtime.choice import choose
from clip_qdrant_training.inputs.samples import Batch
from clip_qdrant_training.job import TrainingJob
from clip_qdrant_training.loop.batches import Batches
from clip_qdrant_training.loop.distributed import Processes, join_processes, limit_threads
from clip_qdrant_training.loop.optim import learning_rates, plateau, schedule, set_learning_rates
from clip_qdrant_training.loop.state import (
    BEST,
    STATE,
    check_writable,
    digest_origin,
    read_state,
    remove_unfinished,
    write_state,
)
from clip_qdrant_training.loop.step import Learner, fork_random_state
from clip_qdrant_training.loop.validation import TrainingOutcome, Validation
from clip_qdrant_training.progress import EpochReport, RunStart, StepReport, Watcher

__all__ = ["Trainer", "TrainingOutcome", "train"]

logger = logging.getLogger(__name__)


def train(
    job: TrainingJob,
    *,
    run: Path | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
    on_first_batch: Callable[[Batch], None] | None = None,
) -> TrainingOutcome:
    """Train, and return the best by mean recall on the validation pairs, the start among them; the last without any.

    `run` is a folder for the state of the run, which `resume` goes on from if it is there. `on_first_batch` gets what
    the first step will see, before training and in the main process; not in a resumed run, which has had its first
    step.
    """
    if job.config.wise_ft and not job.validation:
        raise ConfigError(
            "wise_ft is on, and there are no validation pairs to choose the mix of start and end by: give some, or let "
            "hold_out keep a part of the pairs"
        )
    if len(job.mixture.pairs) < 2:
        raise TrainingError(f"{len(job.mixture.pairs)} pair is not enough for a contrastive loss: give at least 2")
    for path in (job.output, run and run / STATE):
        if path:
            check_writable(path)
    device, _ = choose(job.config.device, "torch")
    with (
        join_processes(device) as (processes, device),
        limit_threads(job.config.threads, processes),
        fork_random_state(device),
        contextlib.closing(Trainer(job, device=device, processes=processes, run=run)) as trainer,
    ):
        if processes.main:
            for path in (job.output, *((run / STATE, run / BEST) if run else ())):
                if path:
                    remove_unfinished(path)
        if resume:
            trainer.load()
        if on_first_batch and processes.main and not trainer.learner.done:
            on_first_batch(trainer.batches.first())
        return trainer.train(watcher if processes.main else None)


class Trainer:
    """One run. `train` goes through the epochs that are left."""

    def __init__(
        self,
        job: TrainingJob,
        *,
        device: str = "cpu",
        processes: Processes | None = None,
        run: Path | None = None,
    ) -> None:
        self.job, self.config, self.run = job, job.config, run
        self.learner = Learner(job, device=device, processes=processes, folder=run / "cache" if run else None)
        self.validation = Validation(job, self.learner, run)
        self.batches = Batches(job.mixture, self.learner.samples, job.config, self.learner.processes)
        self.origin = digest_origin(job, self.batches.size) if run else {}
        self.total = 0.0  # the losses of the steps of the current epoch

    def close(self) -> None:
        for part in (self.batches, self.validation, self.learner):
            part.close()

    def train(self, watcher: Watcher | None = None) -> TrainingOutcome:
        """Trains all epochs that are left."""
        epoch, behind = self.batches.position(self.learner.done)
        self.validation.write()  # of a resumed run, whose output may be another or gone
        if watcher:
            watcher.started(self._run_start())
        try:
            with self.learner.accelerate():
                if self.validation.judges and not self.learner.done:
                    self._judge_start(watcher)
                while epoch <= self.config.epochs and not self._stops_early(epoch):
                    self._epoch(epoch, behind, watcher)
                    epoch, behind = epoch + 1, 0
        finally:
            if watcher:
                watcher.ended()
        if self.config.wise_ft:
            self._mix()
        if self.validation.judges and not self.validation.best_epoch:
            logger.warning(
                "no epoch was better than the start, which is kept as it is: more pairs, lower learning rates or "
                "fewer epochs may help"
            )
        if self.job.graphs:
            self.validation.add_graphs()
        return self.validation.share()

    def save(self, path: Path) -> None:
        """The state of the run between two steps."""
        state = {"config": self.config.to_dict(), "origin": self.origin, "total": self.total}
        write_state(path, {**state, **self.learner.state(), **self.validation.state()})

    def load(self) -> None:
        """Go on from the state in the run folder. Nothing to go on from is a fresh start."""
        path, learner = self.run / STATE if self.run else None, self.learner
        if path is not None and path.exists():
            state = read_state(path, self.config.to_dict(), self.origin)
            learner.restore(state)
            self.validation.restore(state)
            self.total = state["total"]
        begun = learner.processes.agree(learner.done)
        if begun != learner.done:
            raise TrainingError(
                f"process {learner.processes.rank} found a state after step {learner.done} in {self.run}, the main "
                f"process one after step {begun}: put the run folder where all processes see it"
            )

    def _judge_start(self, watcher: Watcher | None) -> None:
        """What the epochs have to beat."""
        began = time.perf_counter()
        metrics, best = self.validation.judge(0)
        seconds = time.perf_counter() - began
        report = EpochReport(0, self.config.epochs, math.nan, math.nan, seconds, best, metrics=metrics)
        logger.info("%s", report)
        if watcher:
            watcher.epoch_ended(report)

    def _mix(self) -> None:
        """Mixes of start and end, the best of which is kept."""
        mixes, chosen = self.validation.mix()
        if chosen:
            logger.warning("of start and end the mix with %g of the end is the best, and kept (wise_ft)", chosen)
        elif mixes:
            logger.warning("no mix of start and end is better than the best epoch, which is kept (wise_ft)")

    def _epoch(self, epoch: int, behind: int, watcher: Watcher | None) -> None:
        """The steps of an epoch but for the first `behind`, then the judgement."""
        began, waited, count = time.perf_counter(), 0.0, 0
        self.learner.begin_epoch()
        for batch, waiting in self.batches.iterate(epoch, behind):
            at = time.perf_counter()
            loss, norm = self._step(batch)
            seconds = time.perf_counter() - at + waiting
            waited, count = waited + waiting, count + 1
            if watcher:
                watcher.stepped(self._step_report(epoch, loss, norm, seconds, waiting))
            if self._is_due(epoch):
                self.save(self._state_path())
        seconds = time.perf_counter() - began
        metrics, improved = self.validation.judge(epoch)
        report = EpochReport(
            epoch=epoch,
            epochs=self.config.epochs,
            loss=self.total / max(1, behind + count),
            images_per_second=count * self.batches.size / seconds,
            seconds=seconds,
            best=improved,
            waited=waited / seconds,
            metrics=metrics,
        )
        logger.info("%s", report)
        if watcher:
            watcher.epoch_ended(report)
        self.total = 0.0
        if self.run and self.learner.processes.main:  # after its report, which a kill between the two would lose
            self.save(self._state_path())

    def _step(self, batch: Batch) -> tuple[float, float]:
        """One optimiser step: the loss, and the norm of the gradient before clipping. Raises TrainingError for NaN."""
        config, done = self.config, self.learner.done
        factor = schedule(done, self.batches.steps, config.warmup, cosine=config.schedule == "cosine")
        factor *= plateau(self.validation.scores) if config.schedule == "plateau" else 1.0
        set_learning_rates(self.learner.optimizer, factor)
        loss, norm = self.learner.gradients(batch)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._explain_nan(batch, loss, norm)
        self.learner.update()
        self.total += loss
        return loss, norm

    def _stops_early(self, epoch: int) -> bool:
        """Whether to stop before this epoch, because those before it improved nothing."""
        waiting = self.validation.waiting(epoch)
        stops = bool(self.config.early_stopping and waiting >= self.config.early_stopping)
        if stops:
            logger.info("no improvement in %d epochs: stopping", waiting)
        return stops

    def _is_due(self, epoch: int) -> bool:
        """Whether the state is to be saved after this step; the last of an epoch is saved when it has been judged."""
        every, done = self.config.save_every, self.learner.done
        at_end = self.batches.position(done)[0] != epoch
        return bool(self.run and every and done % every == 0 and not at_end and self.learner.processes.main)

    def _state_path(self) -> Path:
        assert self.run is not None
        return self.run / STATE

    def _run_start(self) -> RunStart:
        learner, pairs = self.learner, self.job.mixture.pairs
        parameters = list(learner.model.named_parameters())
        return RunStart(
            epochs=self.config.epochs,
            steps=self.batches.steps,
            step=learner.done,
            pairs=len(pairs),
            captions=sum(len(pair.captions) for pair in pairs),
            trainable=sum(p.numel() for name, p in parameters if learner.freezing.learns(name)),
            parameters=sum(p.numel() for _, p in parameters),
            config=self.config.to_dict(),
        )

    def _step_report(self, epoch: int, loss: float, norm: float, seconds: float, waiting: float) -> StepReport:
        return StepReport(
            step=self.learner.done,
            steps=self.batches.steps,
            epoch=epoch,
            loss=loss,
            lr=learning_rates(self.learner.optimizer),
            logit_scale=self._logit_scale(),
            grad_norm=norm,
            images_per_second=self.batches.size / seconds,
            waited=waiting / seconds,
            seconds=seconds,
        )

    def _logit_scale(self) -> float:
        return float(self.learner.network.logit_scale.detach().exp())

    def _explain_nan(self, batch: Batch, loss: float, norm: float) -> TrainingError:
        """The error for a loss or a gradient that is no number, whose batch is written to the folder of the run."""
        epoch, behind = self.batches.position(self.learner.done)
        images = [str(self.learner.samples.name(number)) for number in batch.numbers]
        what = f"the loss is {loss} in step {behind} of epoch {epoch}"
        if math.isfinite(loss):
            what = f"the gradient is {norm} in step {behind} of epoch {epoch}, at a loss of {loss:.3f}"
        where = f"its batch begins with {', '.join(images[:3])}"
        if self.run and self.learner.processes.main:
            path = self.run / "nan-batch.json"
            report = {
                "step": self.learner.done,
                "epoch": epoch,
                "loss": str(loss),
                "grad_norm": str(norm),
                "lr": learning_rates(self.learner.optimizer),
                "logit_scale": self._logit_scale(),
                "images": images,
                "captions": batch.texts,
            }
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8", errors="replace")
            where += f"; all of it is in {path}"
        return TrainingError(f"{what}: lower the learning rates or raise the warm-up; {where}")
