"""The training loop: prepare ahead, step, judge, keep the best; stop and go on at any moment.

from clip_qdrant import ClipEmbedder
clip = ClipEmbedder.fit("train.jsonl", validation="dev.jsonl", output="mine.pt")
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clip_qdrant.errors import ConfigError, TrainingError
from clip_qdrant.model.checkpoint import Checkpoint
from clip_qdrant.model.dual_encoder import MAX_LOGIT_SCALE, DualEncoder
from clip_qdrant.model.saving import save_checkpoint
from clip_qdrant.runtime import cpu_count
from clip_qdrant.runtime.choice import choose
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data.read import Mixture, Pair, Part
from clip_qdrant_training.evaluation.recall import owners, recall
from clip_qdrant_training.events import EpochReport, RunStart, StepReport, Watcher
from clip_qdrant_training.loop.acceleration import accelerated, chosen_precision
from clip_qdrant_training.loop.distributed import Processes, joined
from clip_qdrant_training.loop.inputs import Batch, Samples, Towers, seeded
from clip_qdrant_training.loop.network import prepared, train_mode, with_weights
from clip_qdrant_training.loop.optim import (
    AveragedWeights,
    Freezing,
    learning_rates,
    make_optimizer,
    plateau,
    schedule,
    set_learning_rates,
)
from clip_qdrant_training.loop.state import origin, read_state, remove_unfinished, write_state
from clip_qdrant_training.loop.step import Objective, backward
from clip_qdrant_training.loop.teacher import Teacher

__all__ = ["Outcome", "Trainer", "train"]

logger = logging.getLogger(__name__)
STATE, BEST = "last.state", "best.pt"  # in the folder of a run


@dataclass(frozen=True)
class Outcome:
    """A finished run: the best checkpoint, and the unit rows of the validation pairs it was judged by, if any."""

    checkpoint: Checkpoint
    images: np.ndarray | None = None  # (pairs, dim), float32
    texts: np.ndarray | None = None  # (captions, dim), float32


def train(
    start: Checkpoint,
    pairs: Sequence[Pair] | Mixture,
    *,
    validation: Sequence[Pair] | None = None,
    config: TrainConfig | None = None,
    teacher: Checkpoint | None = None,
    output: Path | None = None,
    half: bool = False,
    trained_on: str = "own pairs",
    run: Path | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
    on_first_batch: Callable[[Batch], None] | None = None,
) -> Outcome:
    """Train `start`, which is left as it is, and return the best by mean recall on `validation`, or the last.

    `output` is where to write the best, in float16 with `half`. `run` is a folder for the state of the run, which
    `resume` goes on from if it is there. `trained_on` is the label of the pairs, kept in the checkpoint behind those of
    its start. `teacher` is who `config.distill` learns from, by default the start. `on_first_batch` gets what the first
    step will see, before training and in the main process; not in a resumed run, which has had its first step.
    """
    config = config or TrainConfig()
    if not isinstance(start.model, DualEncoder):
        raise TrainingError("only dual encoders of a timm and a transformers model can be trained, not hf: models")
    mixture = pairs if isinstance(pairs, Mixture) else Mixture([Part(list(pairs))])
    if len(mixture.pairs) < 2:
        raise TrainingError(f"{len(mixture.pairs)} pair is not enough for a contrastive loss: give at least 2")
    for path in (output, run and run / STATE):
        if path:
            check_writable(path)
    device, _ = choose(config.device, "torch")
    with joined(device) as (processes, device), limited_threads(config.threads, processes):
        trainer = Trainer(
            start,
            mixture,
            validation,
            config,
            device=device,
            processes=processes,
            teacher=teacher,
            run=run,
            trained_on=trained_on,
        )
        with contextlib.closing(trainer):
            if processes.main:
                for path in (output, *((run / STATE, run / BEST) if run else ())):
                    if path:
                        remove_unfinished(path)
            if resume:
                trainer.load()
            if on_first_batch and processes.main and not trainer.done:
                on_first_batch(trainer.first_batch())
            return trainer.train(
                watcher if processes.main else None, output=output if processes.main else None, half=half
            )


class Trainer:
    """One run: the network and all that moves it. `train` goes through the epochs; a step is one call of `step`."""

    def __init__(
        self,
        start: Checkpoint,
        mixture: Mixture,
        validation: Sequence[Pair] | None,
        config: TrainConfig,
        *,
        device: str = "cpu",
        processes: Processes | None = None,
        teacher: Checkpoint | None = None,
        run: Path | None = None,
        trained_on: str = "own pairs",
    ) -> None:
        self.config = config
        self.processes = processes or Processes()
        if config.batch_norm == "train" and self.processes.world > 1:
            raise ConfigError(
                "batch_norm is 'train' with several processes, each of which would have statistics of its own: use "
                "batch_norm=frozen"
            )
        self.device = device
        self.mixture = mixture
        self.validation = validation
        self.run = run
        self.labels = tuple(dict.fromkeys((*start.trained_on, trained_on)))
        torch.manual_seed(config.seed)
        self.start = start
        self.model = prepared(start.model, config, device)
        checkpoint = replace(start, model=self.model)
        self.freezing = Freezing(self.model, config)
        self.objective = Objective(config, self.model.logit_scale)
        self.optimizer = make_optimizer(self.model, self.freezing, config, self.objective.parameters)
        self.averaged = AveragedWeights(self.model, config.ema) if config.ema else None
        precision = chosen_precision(config.precision, device)
        towers = Towers(
            checkpoint,
            frozen_stages=self.freezing.stages,
            frozen_text=self.freezing.text,
            precision=precision,
            unit=self.objective.unit,
            checkpointing=config.gradient_checkpointing,
        )
        folder = run / "cache" if run else None
        self.samples = Samples(checkpoint, mixture.pairs, towers, config, views=config.views, folder=folder)
        self.judged = Samples(checkpoint, validation, towers, config, views=1, folder=folder) if validation else None
        taught_by = (teacher or start) if config.distill else None
        self.teacher = Teacher(taught_by, mixture.pairs, config, device, precision) if taught_by else None
        self.batch_size = self._batch_size()
        self.origin = origin(start, mixture, validation, taught_by, self.batch_size) if run else {}
        self.epoch_steps = [mixture.size(epoch) // self.batch_size for epoch in range(config.epochs)]
        self.steps = sum(self.epoch_steps)
        self.done = 0  # steps behind us
        self.total = 0.0  # the losses of those of them that are of the current epoch
        self.scores: list[float] = []  # of the epochs behind us
        self.best_score, self.best_epoch = -math.inf, 0
        self.best: Outcome | None = None

    def close(self) -> None:
        for samples in (self.samples, self.judged, self.teacher):
            if samples:
                samples.close()

    def train(self, watcher: Watcher | None = None, *, output: Path | None = None, half: bool = False) -> Outcome:
        """All epochs that are left."""
        epoch, behind = self._position()
        if self.best and self.processes.main:  # of a resumed run, whose output may be another or gone
            self._write_best(output, half)
        if watcher:
            watcher.started(self._run_start())
        try:
            with self._accelerated(), ThreadPoolExecutor(1) as ahead:
                while epoch <= self.config.epochs and not self._stops_early(epoch):
                    self._epoch(epoch, behind, ahead, watcher, output, half)
                    epoch, behind = epoch + 1, 0
        finally:
            if watcher:
                watcher.ended()
        best = self._shared_best()
        assert best is not None, "a run has at least one epoch"
        return best

    def first_batch(self) -> Batch:
        """What the first step of this process trains on."""
        return self.samples.prepare(self.processes.share(self.mixture.epoch(self.config.seed, 0)[: self.batch_size]), 1)

    def step(self, batch: Batch) -> tuple[float, float]:
        """One optimiser step: the loss, and the norm of the gradient before clipping. Raises TrainingError for NaN."""
        factor = schedule(self.done, self.steps, self.config.warmup, cosine=self.config.schedule == "cosine")
        factor *= plateau(self.scores) if self.config.schedule == "plateau" else 1.0
        set_learning_rates(self.optimizer, factor)
        loss, norm = self.gradients(batch)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._stop_for_nan(batch, loss, norm)
        self._update()
        self.total += loss
        return loss, norm

    def sweep(self, factors: Iterable[float]) -> Iterator[float]:
        """The loss before each of as many steps as there are factors, taken at these on the peak rates in place of the
        schedule. Ends early at a loss or a gradient that is no number. Trains the network, and judges nothing."""
        with self._accelerated(), ThreadPoolExecutor(1) as ahead:
            self.freezing.apply(self.model, 1)
            train_mode(self.model, self.config, self.freezing)
            batches = (batch for epoch in itertools.count(1) for batch, _ in self._batches(epoch, 0, ahead))
            for factor, batch in zip(factors, batches, strict=False):
                loss, norm = self.gradients(batch)
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    return
                yield loss
                set_learning_rates(self.optimizer, factor)
                self._update()

    def gradients(self, batch: Batch) -> tuple[float, float]:
        """Sets the gradient of a batch, clipped and of all processes: the loss, and the norm before clipping."""
        # Dropout follows from the seed, the step and the process alone, as all else that is random: a resumed run needs
        # no state of generators, and no two processes drop the same units.
        torch.manual_seed(seeded(self.config.seed, self.done, self.processes.rank).getrandbits(63))
        self.optimizer.zero_grad(set_to_none=True)
        loss = backward(
            self.samples.towers,
            self.samples.image_inputs(batch),
            self.samples.text_inputs(batch),
            batch,
            self.objective,
            chunk_size=self.config.chunk_size,
            processes=self.processes,
            **self._taught(batch),
        )
        learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.processes.add_gradients(learning)
        return loss, float(nn.utils.clip_grad_norm_(learning, self.config.clip_norm or math.inf))

    def _taught(self, batch: Batch) -> dict[str, Any]:
        """What `backward` takes of the teacher in this step."""
        if self.teacher is None:
            return {}
        if not self.teacher.anchors:
            first = batch.texts[:: self.config.captions_per_image]
            return {"teacher": (self.teacher.images(batch), self.teacher.texts(first))}
        count = min(self.config.anchors_per_step, len(self.teacher.anchors)) // self.processes.world
        # The seed is that of all processes: each keeps its share of the same anchors in place.
        drawn = seeded(self.config.seed, self.done, 2).sample(self.teacher.anchors, count * self.processes.world)
        own = list(self.processes.share(drawn))
        return {
            "teacher": (self.teacher.images(batch), self.teacher.texts(own)),
            "anchors": self.samples.towers.text_inputs(own),
        }

    def _update(self) -> None:
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        self.done += 1
        if self.averaged:
            self.averaged.update(self.model, self.done)

    def save(self, path: Path) -> None:
        """The state of the run between two steps."""
        write_state(
            path,
            {
                "config": self.config.to_dict(),
                "origin": self.origin,
                "done": self.done,
                "total": self.total,
                "model": self.model.state_dict(),
                "objective": {name: p.detach() for name, p in self.objective.parameters.items()},
                "optimizer": self.optimizer.state_dict(),
                "averaged": self.averaged.weights if self.averaged else {},
                "scores": self.scores,
                "best_score": self.best_score,
                "best_epoch": self.best_epoch,
                "best": _packed(self.best),
            },
        )

    def load(self) -> None:
        """Go on from the state in the run folder. Nothing to go on from is a fresh start."""
        path = self.run / STATE if self.run else None
        if path is not None and path.exists():
            self._restore(read_state(path, self.config.to_dict(), self.origin))
        begun = self.processes.agree(self.done)
        if begun != self.done:
            raise TrainingError(
                f"process {self.processes.rank} found a state after step {self.done} in {self.run}, the main process "
                f"one after step {begun}: put the run folder where all processes see it"
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            for name, parameter in self.objective.parameters.items():
                parameter.copy_(state["objective"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            self.averaged.weights = {name: each.to(self.device) for name, each in state["averaged"].items()}
        self.done, self.total = state["done"], state["total"]
        self.scores = list(state["scores"])
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        self.best = self._unpacked(state["best"])

    # --- an epoch ------------------------------------------------------------------------------------------------

    def _epoch(
        self,
        epoch: int,
        behind: int,
        ahead: ThreadPoolExecutor,
        watcher: Watcher | None,
        output: Path | None,
        half: bool,
    ) -> None:
        """The steps of an epoch but for the first `behind`, then the judgement."""
        began, waited, count = time.perf_counter(), 0.0, 0
        self.freezing.apply(self.model, epoch)
        train_mode(self.model, self.config, self.freezing)
        for batch, waiting in self._batches(epoch, behind, ahead):
            at = time.perf_counter()
            loss, norm = self.step(batch)
            seconds = time.perf_counter() - at + waiting
            waited, count = waited + waiting, count + 1
            if watcher:
                watcher.stepped(self._step_report(epoch, loss, norm, seconds, waiting))
            if self._due(epoch):
                self.save(self._state_path())
        seconds = time.perf_counter() - began
        metrics, improved = self._judge(epoch, output, half)
        report = EpochReport(
            epoch=epoch,
            epochs=self.config.epochs,
            loss=self.total / max(1, behind + count),
            images_per_second=count * self.batch_size / seconds,
            seconds=seconds,
            best=improved,
            waited=waited / seconds,
            metrics=metrics,
        )
        logger.info("%s", report)
        if watcher:
            watcher.epoch_ended(report)
        self.total = 0.0
        if self.run and self.processes.main:  # once the epoch is told, or its report would be lost to a kill between
            self.save(self._state_path())

    def _batches(self, epoch: int, behind: int, ahead: ThreadPoolExecutor) -> Iterator[tuple[Batch, float]]:
        """Each batch of an epoch, prepared while the one before it trains, and how long it was waited for.

        Full batches only: a smaller last one would have easier negatives.
        """
        order, size = self.mixture.epoch(self.config.seed, epoch - 1), self.batch_size
        parts = [order[start : start + size] for start in range(behind * size, len(order) - size + 1, size)]
        shares = [self.processes.share(part) for part in parts]
        coming = [ahead.submit(self.samples.prepare, share, epoch) for share in shares[:2]]
        for number in range(len(shares)):
            at = time.perf_counter()
            batch = coming.pop(0).result()
            waiting = time.perf_counter() - at
            if number + 2 < len(shares):
                coming.append(ahead.submit(self.samples.prepare, shares[number + 2], epoch))
            yield batch, waiting

    def _judge(self, epoch: int, output: Path | None, half: bool) -> tuple[Mapping[str, float], bool]:
        """Recalls on the validation pairs, by the averaged weights if there are any; keeps the best."""
        improved, metrics, score = False, {}, 0.0
        if self.processes.main:
            swapped = self.averaged.swapped_in(self.model) if self.averaged else contextlib.nullcontext()
            self.model.eval()
            with swapped:
                images, texts = self.judged.all_rows() if self.judged else (None, None)
                if images is not None and texts is not None and self.validation:
                    metrics = recall(images, texts, owners(list(self.validation)))
                score = sum(metrics.values()) if metrics else float(epoch)  # without validation the last one counts
                improved = score > self.best_score
                if improved:
                    checkpoint = replace(self._finished(), metrics=metrics)
                    self.best, self.best_score, self.best_epoch = Outcome(checkpoint, images, texts), score, epoch
                    self._write_best(output, half)
        self.scores.append(self.processes.agree(score))
        self.best_epoch = self.processes.agree(self.best_epoch)
        return metrics, improved

    def _shared_best(self) -> Outcome | None:
        """The main process's best, in all of them: a script goes on in each."""
        if self.processes.world == 1:
            return self.best
        packed = self.processes.agree(_packed(self.best))
        return self.best if self.processes.main else self._unpacked(packed)

    def _write_best(self, output: Path | None, half: bool) -> None:
        assert self.best is not None
        for path in (output, self.run and self.run / BEST):
            if path:
                save_checkpoint(self.best.checkpoint, path, half=half)

    def _finished(self) -> Checkpoint:
        """The network as it is now, on the CPU, without a trace of how it was trained."""
        return with_weights(self.start, self.model, self.model.state_dict(), self.labels)

    # --- small things ----------------------------------------------------------------------------------------------

    def _batch_size(self) -> int:
        """Of all processes together: what is configured, or what there is if that is less; a multiple of `world`."""
        world = self.processes.world
        size = min(self.config.batch_size, *(self.mixture.size(epoch) for epoch in range(self.config.epochs)))
        if size // world < 1 or size < 2:
            raise TrainingError(f"{size} pairs an epoch are not enough for {world} processes and a contrastive loss")
        return size - size % world

    def _position(self) -> tuple[int, int]:
        """The epoch that the next step is in, and the steps of it that are done."""
        behind = self.done
        for epoch, steps in enumerate(self.epoch_steps, start=1):
            if behind < steps:
                return epoch, behind
            behind -= steps
        return self.config.epochs + 1, 0

    def _stops_early(self, epoch: int) -> bool:
        """Whether this epoch is not to be begun, for those before it improved nothing."""
        waiting = epoch - 1 - self.best_epoch
        stops = bool(self.config.early_stopping and self.validation and waiting >= self.config.early_stopping)
        if stops:
            logger.info("no improvement in %d epochs: stopping", waiting)
        return stops

    def _due(self, epoch: int) -> bool:
        """Whether the state is to be saved after this step; the last of an epoch is saved when it has been judged."""
        every = self.config.save_every
        at_end = self._position()[0] != epoch
        return bool(self.run and every and self.done % every == 0 and not at_end and self.processes.main)

    def _state_path(self) -> Path:
        assert self.run is not None
        return self.run / STATE

    def _accelerated(self) -> contextlib.AbstractContextManager[None]:
        size = self.start.preprocessing.image_size
        example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        fold = self.config.batch_norm == "frozen"
        return accelerated(self.model.image_encoder, example.to(self.device), fold=fold)

    def _run_start(self) -> RunStart:
        parameters = list(self.model.named_parameters())
        return RunStart(
            epochs=self.config.epochs,
            steps=self.steps,
            step=self.done,
            pairs=len(self.mixture.pairs),
            captions=sum(len(pair.captions) for pair in self.mixture.pairs),
            trainable=sum(p.numel() for name, p in parameters if self.freezing.learns(name, self.model)),
            parameters=sum(p.numel() for _, p in parameters),
            config=self.config.to_dict(),
        )

    def _step_report(self, epoch: int, loss: float, norm: float, seconds: float, waiting: float) -> StepReport:
        return StepReport(
            step=self.done,
            steps=self.steps,
            epoch=epoch,
            loss=loss,
            lr=learning_rates(self.optimizer),
            logit_scale=float(self.model.logit_scale.detach().exp()),
            grad_norm=norm,
            images_per_second=self.batch_size / seconds,
            waited=waiting / seconds,
            seconds=seconds,
        )

    def _stop_for_nan(self, batch: Batch, loss: float, norm: float) -> None:
        epoch, behind = self._position()
        images = [str(self.samples.name(number)) for number in batch.numbers]
        what = f"the loss is {loss} in step {behind} of epoch {epoch}"
        if math.isfinite(loss):
            what = f"the gradient is {norm} in step {behind} of epoch {epoch}, at a loss of {loss:.3f}"
        told = f"its batch begins with {', '.join(images[:3])}"
        if self.run and self.processes.main:
            path = self.run / "nan-batch.json"
            report = {
                "step": self.done,
                "epoch": epoch,
                "loss": str(loss),
                "grad_norm": str(norm),
                "lr": learning_rates(self.optimizer),
                "logit_scale": float(self.model.logit_scale.detach().exp()),
                "images": images,
                "captions": batch.texts,
            }
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8", errors="replace")
            told += f"; all of it is in {path}"
        raise TrainingError(f"{what}: lower the learning rates or raise the warm-up; {told}")

    def _unpacked(self, packed: Mapping[str, Any]) -> Outcome | None:
        if not packed:
            return None
        made = with_weights(self.start, self.model, packed["weights"], self.labels)
        arrays = [None if packed[name] is None else packed[name].numpy() for name in ("images", "texts")]
        return Outcome(replace(made, metrics=packed["metrics"]), *arrays)


def _packed(best: Outcome | None) -> dict[str, Any]:
    """The best so far in what a state may hold: tensors and plain containers."""
    if best is None:
        return {}
    return {
        "weights": best.checkpoint.model.state_dict(),
        "metrics": dict(best.checkpoint.metrics),
        "images": None if best.images is None else torch.from_numpy(best.images),
        "texts": None if best.texts is None else torch.from_numpy(best.texts),
    }


def check_writable(output: Path) -> None:
    """Raises TrainingError now, not after an hour's epoch, for a checkpoint that could not be written."""
    import tempfile

    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise TrainingError(f"cannot write a checkpoint to {output}: {error.strerror or error}") from error
    if output.is_dir():
        raise TrainingError(f"cannot write a checkpoint to {output}: it is a folder; name a file in it")


@contextlib.contextmanager
def limited_threads(count: int | None, processes: Processes) -> Iterator[None]:
    """torch's threads within a block: this process's share of the cores by default, for more stall small models."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or max(1, cpu_count() // processes.world))
    try:
        yield
    finally:
        torch.set_num_threads(before)
