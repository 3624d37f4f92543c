"""The training loop: prepare ahead, step, judge, keep the best; stop and go on at any moment.

from clip_qdrant import ClipEmbedder
clip = ClipEmbedder.fit("train.jsonl", validation="dev.jsonl", output="mine.pt")
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clip_qdrant.errors import TrainingError
from clip_qdrant.model.checkpoint import Checkpoint, save_checkpoint
from clip_qdrant.model.dual_encoder import MAX_LOGIT_SCALE, DualEncoder
from clip_qdrant.runtime import cpu_count
from clip_qdrant.runtime.choice import choose
from clip_qdrant_training.acceleration import accelerated, chosen_precision
from clip_qdrant_training.config import TrainConfig
from clip_qdrant_training.data import Mixture, Pair, Part
from clip_qdrant_training.distributed import Processes, joined
from clip_qdrant_training.evaluate import owners, recall
from clip_qdrant_training.inputs import Batch, Samples, Towers
from clip_qdrant_training.optim import (
    AveragedWeights,
    Freezing,
    learning_rates,
    make_optimizer,
    schedule,
    set_learning_rates,
)
from clip_qdrant_training.reports import EpochReport, RunStart, StepReport, Watcher
from clip_qdrant_training.stages import image_depth
from clip_qdrant_training.state import data_fingerprint, generators, read_state, set_generators, write_state
from clip_qdrant_training.step import Objective, backward

__all__ = ["Outcome", "Trainer", "train"]

logger = logging.getLogger(__name__)
STATE = "last.state"


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
) -> Outcome:
    """Train `start`, which is left as it is, and return the best by mean recall on `validation`, or the last.

    `output` is where to write the best, in float16 with `half`. `run` is a folder for the state of the run, which
    `resume` goes on from if it is there. `trained_on` is the label of the pairs, kept in the checkpoint behind those of
    its start. `teacher` is who `config.distill` learns from, by default the start.
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
    with joined(device) as (processes, device), _threads(config.threads or max(1, cpu_count() // processes.world)):
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
            if resume:
                trainer.load()
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
        self.device = device
        self.mixture = mixture
        self.validation = validation
        self.run = run
        self.labels = tuple(dict.fromkeys((*start.trained_on, trained_on)))
        torch.manual_seed(config.seed)
        self.start = start
        self.model = _prepared(start.model, config, device)
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
        self.teacher = _Teacher(teacher or start, mixture.pairs, config, device, precision) if config.distill else None
        self.batch_size = self._batch_size()
        self.epoch_steps = [mixture.size(epoch) // self.batch_size for epoch in range(config.epochs)]
        self.steps = sum(self.epoch_steps)
        self.done = 0  # steps behind us
        self.best_score, self.best_epoch = -math.inf, 0
        self.best: Outcome | None = None

    def close(self) -> None:
        for samples in (self.samples, self.judged):
            if samples:
                samples.close()

    def train(self, watcher: Watcher | None = None, *, output: Path | None = None, half: bool = False) -> Outcome:
        """All epochs that are left."""
        epoch, behind = self._position()
        model, fold = self.model, self.config.batch_norm == "frozen"
        if watcher:
            watcher.started(self._run_start())
        try:
            with accelerated(model.image_encoder, self._example(), fold=fold), ThreadPoolExecutor(1) as ahead:
                while epoch <= self.config.epochs:
                    self._epoch(epoch, behind, ahead, watcher, output, half)
                    epoch, behind = epoch + 1, 0
                    waiting = epoch - 1 - self.best_epoch
                    if self.config.early_stopping and self.validation and waiting >= self.config.early_stopping:
                        logger.info("no improvement in %d epochs: stopping", waiting)
                        break
        finally:
            if watcher:
                watcher.ended()
        assert self.best is not None, "a run has at least one epoch"
        return self.best

    def step(self, batch: Batch) -> tuple[float, float]:
        """One optimiser step: the loss, and the norm of the gradient before clipping. Raises TrainingError for NaN."""
        set_learning_rates(self.optimizer, schedule(self.done, self.steps, self.config.warmup))
        self.optimizer.zero_grad(set_to_none=True)
        loss = backward(
            self.samples.towers,
            self.samples.image_inputs(batch),
            self.samples.text_inputs(batch),
            batch,
            self.objective,
            chunk_size=self.config.chunk_size,
            processes=self.processes,
            teacher=self.teacher.rows(batch, self.config.captions_per_image) if self.teacher else None,
        )
        learning = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.processes.add_gradients(learning)
        norm = float(nn.utils.clip_grad_norm_(learning, self.config.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._stop_for_nan(batch, loss, norm)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        self.done += 1
        if self.averaged:
            self.averaged.update(self.model, self.done)
        return loss, norm

    def save(self, path: Path) -> None:
        """The state of the run between two steps."""
        write_state(
            path,
            {
                "config": self.config.to_dict(),
                "data": data_fingerprint(self.mixture.pairs),
                "done": self.done,
                "model": self.model.state_dict(),
                "objective": {name: p.detach() for name, p in self.objective.parameters.items()},
                "optimizer": self.optimizer.state_dict(),
                "averaged": self.averaged.weights if self.averaged else {},
                "generators": generators(),
                "best_score": self.best_score,
                "best_epoch": self.best_epoch,
                "best": _packed(self.best),
            },
        )

    def load(self) -> None:
        """Go on from the state in the run folder. Nothing to go on from is a fresh start."""
        path = self.run / STATE if self.run else None
        if path is None or not path.exists():
            return
        state = read_state(path, self.config.to_dict(), data_fingerprint(self.mixture.pairs))
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            for name, parameter in self.objective.parameters.items():
                parameter.copy_(state["objective"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged:
            self.averaged.weights = {name: each.to(self.device) for name, each in state["averaged"].items()}
        set_generators(state["generators"])
        self.done = state["done"]
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
        began, total, waited, count = time.perf_counter(), 0.0, 0.0, 0
        self.freezing.apply(self.model, epoch)
        _train_mode(self.model, self.config, self.freezing)
        for batch, waiting in self._batches(epoch, behind, ahead):
            at = time.perf_counter()
            loss, norm = self.step(batch)
            seconds = time.perf_counter() - at + waiting
            total, waited, count = total + loss, waited + waiting, count + 1
            if watcher:
                watcher.stepped(self._step_report(epoch, loss, norm, seconds, waiting))
            if self._due(epoch):
                self.save(self._state_path())
        seconds = time.perf_counter() - began
        metrics, improved = self._judge(epoch, output, half)
        if self.run and self.processes.main:
            self.save(self._state_path())
        report = EpochReport(
            epoch=epoch,
            epochs=self.config.epochs,
            loss=total / max(1, count),
            images_per_second=count * self.batch_size / seconds,
            seconds=seconds,
            best=improved,
            waited=waited / seconds,
            metrics=metrics,
        )
        logger.info("%s", report)
        if watcher:
            watcher.epoch_ended(report)

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
        improved, metrics = False, {}
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
                    for path in (output, self.run and self.run / "best.pt"):
                        if path:
                            save_checkpoint(checkpoint, path, half=half)
        self.best_epoch = int(self.processes.agree(self.best_epoch))
        if self.best is None:  # another process has it
            self.best = Outcome(self._finished())
        return metrics, improved

    def _finished(self) -> Checkpoint:
        """The network as it is now, on the CPU, without a trace of how it was trained."""
        return _with_weights(self.start, self.model, self.model.state_dict(), self.labels)

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

    def _due(self, epoch: int) -> bool:
        """Whether the state is to be saved after this step; the last of an epoch is saved when it has been judged."""
        every = self.config.save_every
        at_end = self._position()[0] != epoch
        return bool(self.run and every and self.done % every == 0 and not at_end and self.processes.main)

    def _state_path(self) -> Path:
        assert self.run is not None
        return self.run / STATE

    def _example(self) -> Tensor:
        size = self.start.preprocessing.image_size
        example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return example.to(self.device)

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
        made = _with_weights(self.start, self.model, packed["weights"], self.labels)
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


class _Teacher:
    """A frozen dual encoder whose similarities within a batch the student is to keep; computed once."""

    def __init__(
        self, checkpoint: Checkpoint, pairs: Sequence[Pair], config: TrainConfig, device: str, precision: torch.dtype
    ) -> None:
        if not isinstance(checkpoint.model, DualEncoder):
            raise TrainingError("a teacher is a dual encoder of a timm and a transformers model, not an hf: model")
        frozen = replace(checkpoint, model=copy.deepcopy(checkpoint.model).to(device).eval())
        towers = Towers(
            frozen,
            frozen_stages=image_depth(frozen.model.image_encoder),
            frozen_text=True,
            precision=precision,
            unit=True,
        )
        self._samples = Samples(frozen, pairs, towers, config, views=1)

    def rows(self, batch: Batch, captions_per_image: int) -> tuple[Tensor, Tensor]:
        """Unit rows of the batch's images, unaugmented, and of the first caption of each."""
        samples = self._samples
        with torch.no_grad():
            images = samples.towers.image_rows(samples.image_inputs(samples.prepare(batch.numbers, 0)))
            first = replace(batch, texts=batch.texts[::captions_per_image])
            return images, samples.towers.text_rows(*samples.text_inputs(first))


def _prepared(model: DualEncoder, config: TrainConfig, device: str) -> DualEncoder:
    """A copy to be trained, with what the config says of its dropout and temperature."""
    copied = copy.deepcopy(model).to(device)
    copied.image_encoder.to(memory_format=torch.channels_last)
    if config.dropout is not None:
        copied.config = replace(copied.config, dropout=config.dropout)
        for head in (copied.image_projection, copied.text_projection):
            for module in head.modules():
                if isinstance(module, nn.Dropout):
                    module.p = config.dropout
    if config.temperature is not None:
        with torch.no_grad():
            copied.logit_scale.fill_(min(MAX_LOGIT_SCALE, -math.log(config.temperature)))
    elif config.loss == "sigmoid":
        with torch.no_grad():
            copied.logit_scale.fill_(math.log(10))  # Zhai et al. 2023, section 3.2
    if config.gradient_checkpointing:
        copied.text_encoder.model.gradient_checkpointing_enable()
    return copied


def _with_weights(
    start: Checkpoint, model: DualEncoder, weights: Mapping[str, Tensor], labels: tuple[str, ...]
) -> Checkpoint:
    finished = copy.deepcopy(start.model)
    finished.config = model.config
    finished.load_state_dict(weights)
    return replace(start, model=finished.eval().requires_grad_(True), trained_on=labels)


def _train_mode(model: DualEncoder, config: TrainConfig, freezing: Freezing) -> None:
    """Dropout on, except in what is frozen. Frozen BatchNorm keeps the statistics it came with: small batches spoil
    them."""
    model.train()
    if freezing.stages == freezing.depths["image_encoder"]:
        model.image_encoder.eval()
    if freezing.text:
        model.text_encoder.eval()
    if config.batch_norm == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


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
def _threads(count: int) -> Iterator[None]:
    """torch's threads within a block: more than there are cores stall small models."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
